"""The shared right to call Braze now, and what all workers know of it.

One bucket for the deployment, on the server's clock. What one worker learns from a reply (a
pause, a limit, refused credentials, smaller requests) holds for all of them at once.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import msgpack

from worker.durations import to_ms
from worker.pipeline.outcome import Outcome, Verdict
from worker.pipeline.schedule import Lane
from worker.stores.keys import (
    COUNTS,
    DELETE_COUNTS,
    DELETE_DEST,
    DELETE_PERMITS,
    DELETE_VALVE,
    DEST,
    PERMITS,
    VALVE,
)
from worker.stores.scripts import Scripts, Step, after_reading, together

# The stop that an operator's pause sets; see `held_by_hand` in report.lua.
OPERATOR = "operator"
# A mode, and what a destination is in it.
SHADOW = "shadow"
# Whoever asked for smaller requests may have been a proxy's bad hour.
_REMEMBER_CAPS_MS = 3_600_000
# Who sends little has no further successes to widen with: so long after one, trouble is past.
WIDE_AGAIN_MS = 10_000


@dataclass(frozen=True, slots=True)
class AllowancePolicy:
    """How much may be asked of Braze. `rate` in requests per second; `valve_share` of verdicts.

    After `failures` transient failures in a row all workers narrow to one request at a time.
    """

    rate: float = 100.0
    burst: int = 10
    objects: int = 75
    size: int = 4_000_000
    permit_life: timedelta = timedelta(seconds=30)
    failures: int = 3
    valve_share: float = 0.2
    valve_verdicts: int = 200
    valve_window: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether one request may be made, after `wait_ms`. If not, `why` is one of `stopped`,
    `paused`, `narrowed`, `hinted`, `rate`, and `wait_ms` says when to ask again."""

    is_granted: bool
    wait_ms: int
    why: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a report changed: transient failures (or 429s) in a row, and the valve."""

    failures: int
    valve_tripped: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination as all workers see it. Instants in ms.

    `by` and `why` are an operator's, of the stop that is called `operator`. `failing_since_ms`:
    the first transient failure in a row; `answered_ms`: when such a row ended, until that is told;
    `released_ms`: when an operator lifted a stop last.
    """

    stop: str | None
    stopped_at_ms: int | None
    key_print: str | None
    next_probe_ms: int
    until_ms: int
    reason: str | None
    failures: int
    last_reason: str | None
    width: int
    hint_left: int | None
    hint_reset_ms: int
    most_objects: int | None
    most_bytes: int | None
    by: str | None = None
    why: str | None = None
    failing_since_ms: int | None = None
    last_fine_ms: int | None = None
    answered_ms: int | None = None
    released_ms: int | None = None

    def is_wide_again(self, now_ms: int) -> bool:
        """True if a narrowing is past: a success, and no failure for a while since."""
        return (
            not self.failures
            and self.last_fine_ms is not None
            and now_ms - self.last_fine_ms >= WIDE_AGAIN_MS
        )

    def state(self, now_ms: int, mode: str = "live") -> tuple[str, str | None, int | None]:
        """`connected`, `slowed`, `paused` or `unreachable`; the code of the reason; until when
        (ms), if that is known. All who tell of the destination ask here.

        Nothing reaches Braze from a shadow: if nothing else holds it back, its state is `shadow`.
        """
        until = self.until_ms if self.until_ms > now_ms else None
        if self.stop:
            return "paused", self.stop, None
        if self.width and self.failures:
            return "unreachable", self.last_reason, until
        if until:
            return "paused", self.reason, until
        if self.width and not self.is_wide_again(now_ms):
            return "slowed", "recovering", None
        if self.most_objects or self.most_bytes:
            return "slowed", "smaller_requests", None
        if self.hint_left == 0 and self.hint_reset_ms > now_ms:
            return "slowed", "rate_limit_remaining", self.hint_reset_ms
        return SHADOW if mode == SHADOW else "connected", None, None


@dataclass(frozen=True, slots=True)
class AllowanceKeys:
    """Where the allowance of one endpoint is kept: Braze has a limit and a permission for each."""

    dest: str
    permits: str
    valve: str
    counts: str


TRACK = AllowanceKeys(DEST, PERMITS, VALVE, COUNTS)
DELETE = AllowanceKeys(DELETE_DEST, DELETE_PERMITS, DELETE_VALVE, DELETE_COUNTS)


class Allowance:
    """One for the deployment and each endpoint; its keys share a hash tag of their own."""

    def __init__(
        self,
        scripts: Scripts,
        policy: AllowancePolicy,
        keys: AllowanceKeys = TRACK,
    ) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self.policy = policy
        self._keys = keys

    def reserve(self, permit: str, lane: Lane, longest_wait_ms: int) -> Permission:
        """Ask for one request. Granted, the caller waits `wait_ms`, looks for a pause, and goes."""
        return self.reserving(permit, lane, longest_wait_ms).run()

    def reserving(self, permit: str, lane: Lane, longest_wait_ms: int) -> Step[Permission]:
        """`reserve`, prepared to go with other scripts in one round trip."""
        step = self._scripts.step_alone(
            "reserve",
            [self._keys.dest, self._keys.permits],
            permit,
            lane.code,
            self.policy.rate,
            self.policy.burst,
            longest_wait_ms,
            to_ms(self.policy.permit_life),
            WIDE_AGAIN_MS,
        )
        return replace(step, read=_permission)

    def reporting(
        self,
        permit: str,
        outcome: Outcome,
        *,
        status: str,
        objects: int,
        key_print: str,
        final: int,
    ) -> Step[Learned]:
        """Give the permit back with what the reply said, prepared to go with other scripts in one
        round trip. `final`: verdicts that end something.

        Where the valve trips, nothing of this request may be counted dead.
        """
        dead = sum(item.verdict is Verdict.DEAD for item in outcome.items)
        hints = outcome.hints
        packed = b""
        if hints and hints.remaining is not None and hints.reset_in is not None:
            reset_ms = max(0, round(hints.reset_in * 1000))
            packed = msgpack.packb((hints.limit or 0, hints.remaining, reset_ms))
        step = self._scripts.step_alone(
            "report",
            [self._keys.dest, self._keys.permits, self._keys.valve, self._keys.counts],
            permit,
            outcome.course.value,
            outcome.reason,
            -1 if outcome.wait is None else round(outcome.wait * 1000),
            final,
            dead,
            packed,
            0 if outcome.max_objects is None else max(1, outcome.max_objects // 2),
            0 if outcome.max_bytes is None else max(1, outcome.max_bytes // 2),
            key_print,
            self.policy.valve_share,
            self.policy.valve_verdicts,
            to_ms(self.policy.valve_window),
            objects,
            status,
            to_ms(self.policy.permit_life),
            self.policy.failures,
        )
        return replace(step, read=_learned)

    def report(self, step: Step[Learned]) -> tuple[Learned, str | None]:
        """Run what `reporting` prepared: what it changed, and the stop that there was before."""
        before, learned = after_reading(self._client, self._keys.dest, "stop", step)
        return learned, before.decode() if before is not None else None

    def take_answered(self) -> tuple[int, int] | None:
        """A row of failures that has ended: its first and its end (ms). One caller gets each."""
        names = ("failed_from", "answered")
        with self._client.pipeline(transaction=True) as together:
            together.hmget(self._keys.dest, *names)
            together.hdel(self._keys.dest, *names)
            (failed_from, answered), _ = together.execute()
        if failed_from is None or answered is None:
            return None
        return int(float(failed_from)), int(float(answered))

    def give_back(self, permit: str) -> None:
        """The request was not made after all; its slot is lost, its place is free again."""
        self._client.zrem(self._keys.permits, permit)

    def pause(self, wait: timedelta, reason: str, *, narrow: bool) -> None:
        """All workers wait for this long at least; `narrow`: then one probe at a time."""
        flag = "1" if narrow else ""
        self._scripts.alone("pause", [self._keys.dest], to_ms(wait), reason, flag)

    def stop(self, reason: str) -> None:
        """Nothing is sent until `resume`."""
        self._client.hset(self._keys.dest, mapping={"stop": reason, "stopped_at": self.now_ms()})

    def resume(self, only: str = "") -> bool:
        """Lift every stop, pause and narrowing. True if there was one.

        With `only` nothing is done unless that is the stop: somebody may have stopped it anew.
        """
        return bool(self._lift(only, "1"))

    def hold(self, by: str, why: str) -> Destination:
        """An operator's pause: nothing is sent until `release`. Returns what was before."""
        with self._client.pipeline(transaction=True) as together:
            together.hgetall(self._keys.dest)
            fields = {"stop": OPERATOR, "stopped_at": self.now_ms(), "by": by, "why": why}
            together.hset(self._keys.dest, mapping=fields)
            return _destination(together.execute()[0])

    def release(self) -> Destination | None:
        """An operator's resume: lift the stop, whatever it is called, and empty the valve.

        Returns what was lifted; None if there was no stop. Waits that Braze asked for stand. How
        long trouble has lasted is counted from here: nothing was tried meanwhile.
        """
        found = self._lift("", "0")
        if found:
            self._client.hset(self._keys.dest, "released_at", self.now_ms())
        return _destination(dict(zip(found[::2], found[1::2], strict=True))) if found else None

    def _lift(self, only: str, everything: str) -> list[bytes]:
        keys = [self._keys.dest, self._keys.valve]
        lifted: list[bytes] = self._scripts.alone("lift", keys, only, everything)
        return lifted

    def probe_later(self, at_ms: int, key_print: str) -> None:
        """Note when refused credentials are tried next, and with which key they were refused."""
        self._client.hset(self._keys.dest, mapping={"next_probe": at_ms, "key": key_print})

    def destination(self) -> Destination:
        """The destination as it is now."""
        return _destination(self._client.hgetall(self._keys.dest))

    def may_go(self) -> bool:
        """True unless there is a stop or a pause: looked at after a wait, before the claim."""
        stop, until = self._client.hmget(self._keys.dest, "stop", "until")
        return stop is None and float(until or 0) <= self.now_ms()

    def limits(self) -> tuple[int, int]:
        """The most objects and bytes for one request: the settings', or less if Braze said so."""
        objects, size, since = self._client.hmget(
            self._keys.dest, "most_objects", "most_bytes", "capped_at"
        )
        if since and self.now_ms() - float(since) > _REMEMBER_CAPS_MS:
            self._client.hdel(self._keys.dest, "most_objects", "most_bytes", "capped_at")
            return self.policy.objects, self.policy.size
        return (
            min(self.policy.objects, int(objects)) if objects else self.policy.objects,
            min(self.policy.size, int(size)) if size else self.policy.size,
        )

    def together(self, *steps: Step[Any]) -> list[Any]:
        """Run prepared scripts in their order, in one round trip; see `scripts.together`."""
        return together(self._client, *steps)

    def counts(self) -> dict[str, int]:
        """Requests and objects, in all and by status and course."""
        return {k.decode(): int(v) for k, v in self._client.hgetall(self._keys.counts).items()}

    def now_ms(self) -> int:
        """The server's clock."""
        return self._scripts.now_ms()


def _permission(answer: Any) -> Permission:
    granted, wait, why, reason = answer
    return Permission(granted == 1, int(wait), why.decode(), reason.decode())


def _learned(answer: Any) -> Learned:
    failures, tripped = answer
    return Learned(int(failures), tripped == 1)


def _destination(fields: dict[bytes, bytes]) -> Destination:
    raw = {k.decode(): v.decode() for k, v in fields.items()}
    limits = ("most_objects", "most_bytes", "hint_left", "stopped_at")
    most_objects, most_bytes, hint_left, stopped_at = (
        int(float(raw[name])) if name in raw else None for name in limits
    )
    failing_since, last_fine, answered, released = (
        int(float(raw[name])) if name in raw else None
        for name in ("failing_since", "last_fine", "answered", "released_at")
    )
    return Destination(
        stop=raw.get("stop"),
        stopped_at_ms=stopped_at,
        key_print=raw.get("key"),
        next_probe_ms=int(float(raw.get("next_probe", 0))),
        until_ms=int(float(raw.get("until", 0))),
        reason=raw.get("reason"),
        failures=int(raw.get("failures", 0)),
        last_reason=raw.get("last_reason"),
        width=int(raw.get("width", 0)),
        hint_left=hint_left,
        hint_reset_ms=int(float(raw.get("hint_reset", 0))),
        most_objects=most_objects,
        most_bytes=most_bytes,
        by=raw.get("by") or None,
        why=raw.get("why") or None,
        failing_since_ms=failing_since,
        last_fine_ms=last_fine,
        answered_ms=answered,
        released_ms=released,
    )
