"""What persons were told: the latest notices, what was said already, and what a webhook is still
to get. One for the deployment.

Of the notices for the webhook the newest hundred wait, for a day at most; one worker at a time
posts, and a notice leaves only when it was taken or given up.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex

from worker.pipeline.notices import Notice
from worker.stores.keys import NOTICES, SAID, SENDER, UNSENT, WEBHOOK
from worker.stores.server import Clock, Server, now_ms

_KEPT = 200
_WAITING = 100
_WAITING_LIFE_MS = 86_400_000
_MINUTE_MS = 60_000
# Longer than posting one may take: a sender that is lost is replaced after it.
_SENDER_MS = 15_000


@dataclass(frozen=True, slots=True)
class Kept:
    """One notice as it was given."""

    at_ms: int
    kind: str
    audience: str
    text: str


@dataclass(frozen=True, slots=True)
class Unsent:
    """The next notice for the webhook, which this process may post. `tries` before this one."""

    text: str
    tries: int
    packed: bytes
    token: str


class Notices:
    """Their times are of the server's clock, or of `clock`."""

    def __init__(self, client: Server, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock

    def now_ms(self) -> int:
        """The server's clock."""
        return now_ms(self._client, self._clock)

    def first(self, names: Sequence[str], for_ms: int) -> list[str]:
        """Those of these names that nobody has asked for within their time; it begins now."""
        if not names:
            return []
        now = self.now_ms()
        with self._client.pipeline(transaction=True) as together:
            together.zremrangebyscore(SAID, "-inf", now)
            for name in names:
                together.zadd(SAID, {name: now + for_ms}, nx=True)
            _, *added = together.execute()
        return [name for name, is_new in zip(names, added, strict=True) if is_new]

    def was_said(self, name: str) -> bool:
        """True if somebody has asked for this name with `first`, and its time is not over."""
        until = self._client.zscore(SAID, name)
        return until is not None and until > self.now_ms()

    def add(self, notice: Notice, *, for_webhook: bool) -> bool:
        """Keep a notice, and queue it for the webhook. False if the same was said lately."""
        if notice.once and not self.first([notice.once], notice.again_ms):
            return False
        fields = {
            "at": self.now_ms(),
            "kind": notice.kind,
            "audience": notice.audience,
            "text": notice.text,
            "id": token_hex(4),
        }
        packed = json.dumps(fields)
        with self._client.pipeline(transaction=True) as together:
            together.lpush(NOTICES, packed)
            together.ltrim(NOTICES, 0, _KEPT - 1)
            if for_webhook:
                together.lpush(UNSENT, packed)
                together.ltrim(UNSENT, 0, _WAITING - 1)
                together.pexpire(UNSENT, _WAITING_LIFE_MS)
            if notice.clears:
                together.zrem(SAID, notice.clears)
            together.execute()
        return True

    def latest(self, count: int) -> list[Kept]:
        """The newest first."""
        found = (json.loads(packed) for packed in self._client.lrange(NOTICES, 0, count - 1))
        return [Kept(item["at"], item["kind"], item["audience"], item["text"]) for item in found]

    # --- the webhook

    def next_unsent(self, per_minute: int) -> Unsent | None:
        """The oldest notice to post, or None: there is none, it is not its time, as many as may
        were posted in this minute, or somebody else posts."""
        packed = self._client.lindex(UNSENT, -1)
        if packed is None:
            return None
        now = self.now_ms()
        next_at, minute, posted = (
            int(found or 0) for found in self._client.hmget(WEBHOOK, "next_at", "minute", "posted")
        )
        if next_at > now or (minute == now // _MINUTE_MS and posted >= per_minute):
            return None
        token = token_hex(8)
        if not self._client.set(SENDER, token, nx=True, px=_SENDER_MS):
            return None
        # Somebody may have posted it between the look and the turn.
        packed = self._client.lindex(UNSENT, -1)
        if packed is None:
            self._done(token)
            return None
        tries = int(self._client.hget(WEBHOOK, "tries") or 0)
        return Unsent(str(json.loads(packed)["text"]), tries, packed, token)

    def sent(self, unsent: Unsent) -> None:
        """It was taken, or is given up: the next one's turn."""
        self._count()
        with self._client.pipeline(transaction=True) as together:
            together.lrem(UNSENT, -1, unsent.packed)
            together.hdel(WEBHOOK, "tries", "next_at")
            together.execute()
        self._done(unsent.token)

    def not_sent(self, unsent: Unsent, wait_ms: int) -> None:
        """It was not taken; it is tried again after `wait_ms`."""
        self._count()
        fields = {"tries": unsent.tries + 1, "next_at": self.now_ms() + wait_ms}
        self._client.hset(WEBHOOK, mapping=fields)
        self._done(unsent.token)

    def _count(self) -> None:
        minute = self.now_ms() // _MINUTE_MS
        if int(self._client.hget(WEBHOOK, "minute") or 0) == minute:
            self._client.hincrby(WEBHOOK, "posted", 1)
        else:
            self._client.hset(WEBHOOK, mapping={"minute": minute, "posted": 1})

    def _done(self, token: str) -> None:
        if self._client.get(SENDER) == token.encode():
            self._client.delete(SENDER)
