"""`persona-sync flush KEY`: brings one audience up to date now, instead of at its boundary."""

import time
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import orjson
import typer

from console.costs import pace_of
from console.deployment import Deployment, opened
from console.instants import iso, span_said
from console.obstacles import (
    Obstacle,
    obstacles,
    once_sent,
    server_away,
    what_holds,
    why_not_sent,
)
from console.options import AsJson, By, Key, Wait, Why
from console.paper import for_people, many
from console.watching import SERVER_AWAY, Look, StoppedWatching, watch
from console.who import one_line, this_operator
from worker.contract import inbox_key
from worker.durations import to_ms
from worker.stores.audience_books import AudienceBook
from worker.stores.keys import key as key_of
from worker.stores.outstanding import Outstanding

_INBOX_SECONDS = 10.0


def flush_command(
    key: Key, wait: Wait = False, why: Why = "", by: By = None, as_json: AsJson = False
) -> None:
    """Bring one audience up to date now: send all that waits for its boundary.

    Other audiences keep theirs. Exits 1 if something stands in the way of sending, such as a pause
    or a shadow, or if Braze refused a user for good; what was begun stands.
    """
    with opened() as deployment:
        flush = Flush(deployment, deployment.named(key), this_operator(by), one_line(why))
        flush.begin()
        if wait and flush.has_begun:
            flush.watch()
        report = flush.report()
        if as_json:
            typer.echo(orjson.dumps(report).decode())
        else:
            for_people().print(flush.said(report, waited=wait), soft_wrap=True)
    if flush.was_left:
        raise typer.Exit(130)
    if report["in_the_way"] or report["dead"]:
        raise typer.Exit(1)


@dataclass
class Flush:
    """One flush: begun, watched, told of."""

    deployment: Deployment
    book: AudienceBook
    by: str
    why: str
    begun_ms: int = 0
    started: float = 0.0
    has_begun: bool = False
    was_left: bool = False
    before: Outstanding = field(default_factory=Outstanding)
    now: Outstanding = field(default_factory=Outstanding)
    in_the_way: list[Obstacle] = field(default_factory=list)

    def begin(self) -> None:
        """Have all that differs sent at once. Nothing is begun if nothing differs. Raises Refused.

        What was accepted before and is not applied yet is waited for: a few seconds, at most.
        """
        if (not_sent := why_not_sent(self.book)) is not None:
            raise not_sent.refused()
        deployment, key = self.deployment, self.book.key
        self.in_the_way = obstacles(deployment)
        self.begun_ms = deployment.now_ms()
        if deployment.stores.workers.alive():
            self._wait_for_the_inbox()
            self.begun_ms = deployment.now_ms()
        self.started = time.monotonic()
        self.before = self.now = deployment.outstanding(key, self.begun_ms)
        if not self.before.users:
            if not self._not_applied():
                self.in_the_way = once_sent(self.in_the_way)
            return
        for partition in range(deployment.partitions):
            begun = deployment.stores.sweeps.flush(partition, key, self.by, self.why)
            self.has_begun = self.has_begun or begun
        self.in_the_way = what_holds(deployment, key, self.now)

    def watch(self) -> None:
        """Until nothing is left, or until what is left needs a person or another day."""
        try:
            watch(self._look)
        except StoppedWatching:
            self.was_left = True
        except SERVER_AWAY as error:
            self.in_the_way = [server_away(error)]

    def _look(self) -> Look:
        self.now = self.deployment.outstanding(self.book.key, self.begun_ms)
        self.in_the_way = what_holds(self.deployment, self.book.key, self.now)
        left, lasting = self.now.users, [one for one in self.in_the_way if not one.passes]
        said = f"{many(left, 'user')} left"
        if self.now.held:
            said += f", {self.now.held:,} held for a gap or a hold"
        said += "".join(f"; {one.said}" for one in self.in_the_way)
        if not left:
            self.in_the_way = once_sent(self.in_the_way)
        return Look(said, self.before.users - left, self.before.users, not left or bool(lasting))

    def _wait_for_the_inbox(self) -> None:
        deadline = time.monotonic() + _INBOX_SECONDS
        while self._not_applied() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _not_applied(self) -> int:
        """Envelopes that were accepted before this began, in partitions where there are any."""
        if self._is_server_away:
            return 0
        client, last = self.deployment.stores.client, f"{self.begun_ms}"
        return sum(
            bool(client.xrange(inbox_key(partition), max=last, count=1))
            for partition in range(self.deployment.partitions)
        )

    @property
    def _is_server_away(self) -> bool:
        return any(one.code == "server_away" for one in self.in_the_way)

    @property
    def _in_shadow(self) -> bool:
        return bool(once_sent(self.in_the_way))

    @property
    def dead(self) -> int:
        """Users of it whom Braze has refused for good since."""
        if not self.has_begun or self._is_server_away:
            return 0
        letters, names = self.deployment.stores.dead_letters, {self.book.key}
        names.add(self.book.rule.attribute or self.book.key)
        return sum(
            any(name in names for name, _, _ in letter.values)
            for partition in range(self.deployment.partitions)
            if (newest := letters.newest(partition)) is not None
            for page in letters.pages(partition, newest, self.begun_ms)
            for letter in page
        )

    @property
    def sent(self) -> int:
        """Data points of it that Braze has taken since."""
        return self.now.sent - self.before.sent

    def report(self) -> dict[str, Any]:
        """As a document. Reads how it stands by now, so it is asked for once."""
        not_applied = self._not_applied() > 0
        return {
            "audience": self.book.key,
            "lane": self.book.lane.value,
            "by": self.by,
            "why": self.why or None,
            "begun": self.has_begun,
            "begun_at": iso(self.begun_ms),
            "users": self.before.users,
            "left": self.now.users,
            "held": self.now.held,
            "over_budget": self.now.over,
            "not_applied": not_applied,
            "sent": self.sent,
            "dead": self.dead,
            "up_to_date": not (
                self.now.users or not_applied or self._is_server_away or self._in_shadow
            ),
            "seconds": round(time.monotonic() - self.started, 3),
            "in_the_way": [one.as_json() for one in self.in_the_way],
        }

    def said(self, report: dict[str, Any], *, waited: bool) -> str:
        """The report for people."""
        stands = self._how_it_stands(report, waited)
        return "\n".join([stands, *(one.text for one in self.in_the_way)])

    def _how_it_stands(self, report: dict[str, Any], waited: bool) -> str:
        key, left = self.book.key, report["left"]
        if not self.has_begun:
            if report["not_applied"]:
                return f"{key}: nothing waits, but changes in the inbox are not applied yet."
            is_current = "" if self._in_shadow else " is up to date"
            return f"{key}{is_current}: nothing waits."
        if not waited:
            if any(not one.passes for one in self.in_the_way):
                return f"{key}: {many(left, 'user')} to be sent as soon as that can be."
            return f"{key}: {self._forecast()} `persona-sync status` shows how far it is."
        verb = "counted" if self._in_shadow else "sent"
        sent = f"{many(report['sent'], 'data point')} {verb} in {report['seconds']:,.1f} s"
        dead = f", refused by Braze for good: {report['dead']:,}" if report["dead"] else ""
        if not left and self._in_shadow:
            return f"{key}: {sent}{dead}."
        if not left and not self._is_server_away:
            return f"{key} is up to date: {sent}{dead}."
        after = " Only the watching has stopped" if self.was_left else " What was ordered stands"
        said = f"{key}: {sent}{dead}; {many(left, 'user')} left.{after}: they follow by themselves"
        return f"{said}." if self.was_left else f"{said} as soon as they can."

    def _forecast(self) -> str:
        """How long those who may go now take, and how much longer the others are held."""
        held, (objects, rate) = self.now.held, pace_of(self.deployment)
        go = self.now.users - held
        seconds = -(-go // objects) / rate
        takes = f"about {span_said(seconds)}" if seconds >= 1 else "less than a second"
        if (gap := self._gap_seconds()) > 0:
            takes += f", and up to {span_said(ceil(gap))} for whom another value was sent just now"
        said = [f"{many(go, 'user')} to be sent now, which takes {takes}."] if go else []
        if held:
            held_for = f"{many(held, 'user')} held for a gap or a hold, to be sent by themselves"
            said.append(f"{held_for} within {span_said(ceil(self._held_seconds()))}.")
        return " ".join(said)

    def _gap_seconds(self) -> float:
        """How long the gap lasts that follows the last value of it which Braze took."""
        gap_ms = to_ms(self.deployment.span("same_attribute_gap"))
        return ((self.book.flushed_ms or 0) + gap_ms - self.begun_ms) / 1000

    def _held_seconds(self) -> float:
        """Until the last that is held, of whatever audience, may go: at most so long."""
        client, until = self.deployment.stores.client, self.begun_ms
        for partition in range(self.deployment.partitions):
            for name in ("rt:held", "bt:held"):
                held = client.zrange(key_of(partition, name), -1, -1, withscores=True)
                until = max([until, *(int(at) for _, at in held)])
        return max(1.0, (until - self.begun_ms) / 1000)
