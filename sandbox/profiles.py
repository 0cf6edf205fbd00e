"""The profiles of the workspace, and what writing to them costs.

A profile keeps, per attribute, its last writes as one flat tuple (at, value, at, value, ...): the
last value is the current one, None means removed. Two things follow: an export can show the
profile as it was some seconds ago, and a workspace of a million profiles fits into memory.

Someone addressed without external_id is kept under `user_alias:LABEL:NAME`, `email:ADDRESS` or
`phone:NUMBER`; a braze_id is never known here, so such an object changes nothing.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from sandbox.fields import CONTROL, PROFILE_FIELDS
from sandbox.values import DROPPED, ForcedType, coerce, data_type, fold

BLOCKED: Final = "blocked"
HISTORY: Final = 20

_AT_THE_BEGINNING: Final = 0.0

Rules: TypeAlias = Mapping[str, ForcedType | Literal["blocked"]]
"""What happens in silence to an attribute: BLOCKED, or the type it is forced to."""


class Profile:
    """One user. `writes` holds profile fields and custom attributes side by side."""

    __slots__ = ("created_at", "events", "objects", "purchases", "unchanged", "values", "writes")

    def __init__(self, created_at: float) -> None:
        self.created_at = created_at
        self.writes: dict[str, tuple[Any, ...]] = {}
        self.objects = self.values = self.unchanged = self.events = self.purchases = 0

    def as_of(self, moment: float) -> dict[str, Any]:
        """Every value as it was then; after more than HISTORY writes since, the oldest known."""
        seen: dict[str, Any] = {}
        for name, past in self.writes.items():
            place = len(past) - 2
            while place >= 0 and past[place] > moment:
                place -= 2
            if place < 0 and len(past) == 2 * HISTORY:
                place = 0
            if place >= 0 and past[place + 1] is not None:
                seen[name] = past[place + 1]
        return seen

    def attributes(self) -> dict[str, Any]:
        """The custom attributes as they are now."""
        return {
            name: past[-1]
            for name, past in self.writes.items()
            if past[-1] is not None and name not in PROFILE_FIELDS
        }

    def fields(self) -> dict[str, Any]:
        """The profile fields as they are now."""
        return {
            name: past[-1]
            for name, past in self.writes.items()
            if past[-1] is not None and name in PROFILE_FIELDS
        }

    def history(self) -> dict[str, list[tuple[float, Any]]]:
        """Per attribute its last writes, oldest first, unchanged ones included."""
        return {
            name: list(zip(past[::2], past[1::2], strict=True))
            for name, past in self.writes.items()
        }


@dataclass(slots=True)
class Costs:
    """What all writes have cost: values written, and those that changed nothing, per attribute."""

    values: int = 0
    unchanged: int = 0
    attributes: dict[str, list[int]] = field(default_factory=dict)

    def of(self, name: str) -> list[int]:
        """The counts of one attribute: [values, unchanged]."""
        count = self.attributes.get(name)
        if count is None:
            count = self.attributes[name] = [0, 0]
        return count


class Profiles:
    """All profiles. Writes take effect at once; a read may ask for an earlier moment."""

    def __init__(self) -> None:
        self.costs = Costs()
        self.data_types: dict[str, str] = {}
        # Names written before, with their counts: for them a plain value needs no special care.
        self._usual: dict[str, list[int]] = {}
        self._living: dict[str, Profile] = {}
        # The keys in order, kept from one page of a dump to the next; None once one comes or goes.
        self._order: list[str] | None = None
        self._deleted: dict[str, tuple[float, Profile]] = {}

    def __len__(self) -> int:
        return len(self._living)

    def get(self, key: str) -> Profile | None:
        return self._living.get(key)

    def as_of(self, key: str, moment: float) -> dict[str, Any] | None:
        """What a reader sees of that moment; None where the profile was not there then."""
        deleted_at, former = self._deleted.get(key, (0.0, None))
        if former is not None and deleted_at > moment >= former.created_at:
            return former.as_of(moment)
        profile = self._living.get(key)
        if profile is None or profile.created_at > moment:
            return None
        return profile.as_of(moment)

    def after(self, key: str | None, limit: int) -> Iterator[tuple[str, Profile]]:
        """Up to `limit` profiles in the order of their keys, beginning behind `key`."""
        if self._order is None:
            self._order = sorted(self._living)
        begin = 0 if key is None else bisect_right(self._order, key)
        return ((k, self._living[k]) for k in self._order[begin : begin + limit])

    def set_scene(self, key: str, attributes: Mapping[str, Any]) -> None:
        """Put values in place as if they had always been there; nothing is counted."""
        profile = self._living.get(key) or self._create(key, _AT_THE_BEGINNING)
        profile.created_at = _AT_THE_BEGINNING
        for name, value in attributes.items():
            profile.writes[name] = (_AT_THE_BEGINNING, value)
            if value is not None and name not in PROFILE_FIELDS:
                self.data_types.setdefault(name, data_type(value))

    def delete(self, key: str, at: float) -> None:
        profile = self._living.pop(key, None)
        if profile is not None:
            self._order = None
            self._deleted[key] = (at, profile)

    def write_attributes(self, items: list[dict[str, Any]], at: float, rules: Rules) -> None:
        """Apply attributes objects that were judged fine, in order, and count their values."""
        # Most values are booleans seen first: one shared tuple each saves most of the memory.
        yes, no = (at, True), (at, False)
        living = self._living
        for item in items:
            profile = living.get(item.get("external_id", ""))
            if profile is None:
                profile = self._addressed(item, at)
            if profile is not None:
                profile.objects += 1
                self._write(profile, item, at, rules, yes, no)

    def _write(
        self,
        profile: Profile,
        item: dict[str, Any],
        at: float,
        rules: Rules,
        yes: tuple[float, bool],
        no: tuple[float, bool],
    ) -> None:
        usual, writes = self._usual, profile.writes
        written = unchanged = 0
        for name, value in item.items():
            count = usual.get(name)
            kind = type(value)
            if count is None or kind is dict or kind is list or rules:
                if name not in CONTROL:
                    self._write_with_care(profile, name, value, at, rules, item)
                continue
            written += 1
            past = writes.get(name)
            if past is None:
                before = None
                writes[name] = yes if value is True else no if value is False else (at, value)
            else:
                before = past[-1]
                kept = past if len(past) < 2 * HISTORY else past[2:]
                writes[name] = (*kept, at, value)
            count[0] += 1
            if before == value and type(before) is kind:
                unchanged += 1
                count[1] += 1
        profile.values += written
        profile.unchanged += unchanged
        self.costs.values += written
        self.costs.unchanged += unchanged

    def count_event(self, item: dict[str, Any], at: float) -> None:
        if (profile := self._addressed(item, at)) is not None:
            profile.events += 1

    def count_purchase(self, item: dict[str, Any], at: float) -> None:
        if (profile := self._addressed(item, at)) is not None:
            profile.purchases += 1

    def _addressed(self, item: dict[str, Any], at: float) -> Profile | None:
        """The profile the object speaks of, made by its first write unless that is forbidden."""
        key = item.get("external_id") or key_of(item)
        if key is None:
            return None
        profile = self._living.get(key)
        if profile is None and not item.get("_update_existing_only", "user_alias" in item):
            profile = self._create(key, at)
        return profile

    def _create(self, key: str, at: float) -> Profile:
        profile = self._living[key] = Profile(at)
        self._order = None
        return profile

    def _write_with_care(
        self,
        profile: Profile,
        name: str,
        value: Any,
        at: float,
        rules: Rules,
        item: dict[str, Any],
    ) -> None:
        """A write that may create, fold, coerce, trim a name or be dropped in silence."""
        name = name.strip()
        rule = rules.get(name)
        if rule == BLOCKED:
            return
        past = profile.writes.get(name, ())
        before = past[-1] if past else None
        stored = value if rule is None else coerce(value, rule)
        if stored is not DROPPED:
            stored = fold(before, stored, item.get("_merge_objects") is True)
        unchanged = before == stored and type(before) is type(stored)
        for counts in (profile, self.costs):
            counts.values += 1
            counts.unchanged += unchanged
        count = self.costs.of(name)
        count[0] += 1
        count[1] += unchanged
        if stored is DROPPED:
            return
        if stored is not None:
            self._usual[name] = count
            if name not in PROFILE_FIELDS:
                self.data_types.setdefault(name, data_type(stored))
        profile.writes[name] = (*past[-2 * (HISTORY - 1) :], at, stored)


def key_of(item: dict[str, Any]) -> str | None:
    """Where somebody without external_id is kept; None for a braze_id, which is never known."""
    alias = item.get("user_alias")
    if isinstance(alias, dict):
        return f"user_alias:{alias.get('alias_label')}:{alias.get('alias_name')}"
    if "braze_id" in item:
        return None
    if item.get("email"):
        return f"email:{item['email']}"
    return f"phone:{item['phone']}" if item.get("phone") else None
