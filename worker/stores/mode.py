"""How the workers of this deployment last ran, live or in shadow, and how one becomes the other.

    live -> shadow             the moment is noted
    shadow -> live             trusted: what shadow acknowledged is taken as true
    shadow -> forgetting -> live   what it acknowledged is made unknown, piece by piece

Each step is one script that checks where it starts from, so that of many workers that start at
once one takes it. No mode is stored before the first worker has started.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from worker.stores.keys import MODE
from worker.stores.scripts import Scripts

Mode = Literal["live", "shadow"]
Adopt = Literal["trust", "forget"]


@dataclass(frozen=True, slots=True)
class StoredMode:
    """`since_ms` and `values_before` are of the beginning of the shadow, `until_ms` of its end;
    `shadow_values`: values that shadows which have ended counted as delivered."""

    mode: str = ""
    since_ms: int = 0
    until_ms: int = 0
    values_before: int = 0
    shadow_values: int = 0

    def counted_in_shadow(self, values: int) -> int:
        """How many of all values that the ledger counts as delivered were never sent."""
        running = max(0, values - self.values_before) if self.mode == "shadow" else 0
        return self.shadow_values + running


class Step(StrEnum):
    """What a worker that starts has to do about the mode."""

    NOTHING = "nothing"
    BEGIN_LIVE = "begin_live"
    BEGIN_SHADOW = "begin_shadow"
    ASK = "ask"  # shadow's data, and nobody has said what to make of it
    TRUST = "trust"
    FORGET = "forget"  # begin to
    GO_ON_FORGETTING = "go_on_forgetting"


def step(stored: str, wanted: Mode, adopt: Adopt | None) -> Step:
    """The step from the stored mode ('' for none) to the wanted one. Pure."""
    if wanted == stored:
        return Step.NOTHING
    if wanted == "shadow":
        return Step.BEGIN_SHADOW
    if stored == "":
        return Step.BEGIN_LIVE
    if stored == "forgetting":
        return Step.GO_ON_FORGETTING
    return {None: Step.ASK, "trust": Step.TRUST, "forget": Step.FORGET}[adopt]


class ModeStore:
    """The stored mode; one for the deployment."""

    def __init__(self, scripts: Scripts) -> None:
        self._client = scripts.client
        self._scripts = scripts

    def read(self) -> StoredMode:
        """As it is now."""
        raw = {k.decode(): v.decode() for k, v in self._client.hgetall(MODE).items()}
        return StoredMode(
            mode=raw.get("mode", ""),
            since_ms=int(raw.get("since", 0)),
            until_ms=int(raw.get("until", 0)),
            values_before=int(raw.get("values_before", 0)),
            shadow_values=int(raw.get("shadow_values", 0)),
        )

    def is_shadow(self) -> bool:
        """True while this is what the workers run in."""
        return bool(self._client.hget(MODE, "mode") == b"shadow")

    def begin_live(self) -> bool:
        """The first start. False: somebody was faster; so it is with all that follow."""
        return self._change("", mode="live")

    def begin_shadow(self, before: StoredMode, values: int) -> bool:
        """From now on nothing is sent; `values` is what the ledger counts as delivered so far.

        What was not forgotten yet of a shadow before belongs to this one.
        """
        if before.mode == "forgetting":
            return self._change("forgetting", mode="shadow", values_before=values, until="")
        return self._change(before.mode, mode="shadow", since="@now", values_before=values)

    def trust(self, before: StoredMode, values: int) -> bool:
        """The shadow is over; what it acknowledged stays acknowledged."""
        counted = before.counted_in_shadow(values)
        return self._change("shadow", mode="live", shadow_values=counted)

    def begin_to_forget(self, before: StoredMode, values: int) -> bool:
        """The shadow is over; what it acknowledged is to be made unknown."""
        counted = before.counted_in_shadow(values)
        return self._change("shadow", mode="forgetting", until="@now", shadow_values=counted)

    def forgotten(self) -> bool:
        """All of it is unknown now."""
        return self._change("forgetting", mode="live", scan="")

    def scanned(self, mark: str) -> None:
        """Note how far forgetting has come."""
        self._client.hset(MODE, "scan", mark)

    def scan_mark(self) -> str:
        """How far it had come; '' at the beginning."""
        return str((self._client.hget(MODE, "scan") or b"").decode())

    def _change(self, before: str, **fields: object) -> bool:
        flat = [part for field in fields.items() for part in field]
        return bool(self._scripts.alone("mode", [MODE], before, *flat))
