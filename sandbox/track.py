"""Judges a POST /users/track body the way Braze does: whole-request refusals, then item by item.

Pure: nothing is stored here. Indexes are counted from 0 inside their own array.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import orjson

from sandbox.fields import FIELD_CHECKS, Check, is_time, name_problem, structure_problem

Objects: TypeAlias = list[Any]
LimitForm: TypeAlias = Literal["combined", "per_array"]

ARRAYS: Final = ("attributes", "events", "purchases")
NO_VALID_DATA: Final = (
    "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
)
TOO_LONG: Final = "Max Input Length Exceeded"
NOT_ONE: Final = "You must specify only one of 'external_id', 'user_alias' or 'braze_id'"
NOBODY: Final = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
_PROPERTIES_BYTES: Final = 50_000
_MOST_BOUGHT: Final = 100


@dataclass(frozen=True, slots=True)
class Submission:
    """The arrays a request carried, each possibly empty; only those sent are present."""

    arrays: dict[str, Objects]

    @property
    def size(self) -> int:
        return sum(map(len, self.arrays.values()))


@dataclass(frozen=True, slots=True)
class Judgement:
    """The objects that are fine, per array sent, and an error entry for each that is not."""

    fine: dict[str, Objects]
    errors: list[dict[str, object]]


def read_submission(document: object) -> Submission | str:
    """The three arrays of a body, or the text of the refusal of the whole request."""
    if not isinstance(document, dict):
        return NO_VALID_DATA
    arrays: dict[str, Objects] = {}
    for name in ARRAYS:
        value = document.get(name)
        if value is None:
            continue
        if not isinstance(value, list):
            return f"'{name}' must be an array of objects"
        arrays[name] = value
    if not any(arrays.values()):
        return NO_VALID_DATA
    return Submission(arrays)


def exceeds(submission: Submission, most: int, form: LimitForm) -> bool:
    """Whether the request holds too many objects, counted together or for each array alone."""
    if form == "combined":
        return submission.size > most
    return any(len(objects) > most for objects in submission.arrays.values())


def judge(submission: Submission) -> Judgement:
    """Sort the objects into fine and refused, keeping their order."""
    fine: dict[str, Objects] = {}
    errors: list[dict[str, object]] = []
    for name, objects in submission.arrays.items():
        problem_of = _PROBLEMS[name]
        refused: set[int] = set()
        for index, problem in enumerate(map(problem_of, objects)):
            if problem is not None:
                refused.add(index)
                errors.append({"type": problem, "input_array": name, "index": index})
        fine[name] = (
            [item for index, item in enumerate(objects) if index not in refused]
            if refused
            else objects
        )
    return Judgement(fine, errors)


class _Shape(NamedTuple):
    """What the names of an object alone decide."""

    problem: str | None
    primary: int
    checks: tuple[tuple[str, Check], ...]
    custom: tuple[str, ...]


@lru_cache(maxsize=8192)
def _shape_of(names: tuple[str, ...]) -> _Shape:
    # A client sends few combinations of names, so most objects cost one look-up here.
    custom = tuple(name for name in names if name not in FIELD_CHECKS)
    primary = sum(name in names for name in ("external_id", "user_alias", "braze_id"))
    problems = [NOT_ONE] if primary > 1 else [p for p in map(name_problem, custom) if p]
    return _Shape(
        problem=problems[0] if problems else None,
        primary=primary,
        checks=tuple((name, FIELD_CHECKS[name]) for name in names if name in FIELD_CHECKS),
        custom=custom,
    )


def attributes_problem(item: Any) -> str | None:
    """Why Braze refuses this attributes object, or None."""
    if type(item) is not dict:
        return "attributes must be objects"
    problem, primary, checks, custom = _shape_of(tuple(item))
    if problem is None and primary == 0:
        problem = _identity_problem(item)
    if problem is not None:
        return problem
    for name, check in checks:
        if (problem := check(item[name])) is not None:
            return problem
    for name in custom:
        value = item[name]
        if value is None or type(value) is bool:
            continue
        if (problem := structure_problem(name, value)) is not None:
            return problem
    if item.get("push_token_import") is True:
        return _token_import_problem(item)
    return None


def event_problem(item: Any) -> str | None:
    """Why Braze refuses this event, or None."""
    if type(item) is not dict:
        return "events must be objects"
    if (problem := _common_problem(item)) is not None:
        return problem
    if not _is_name(item.get("name")):
        return "'name' is required"
    return _properties_problem(item)


def purchase_problem(item: Any) -> str | None:
    """Why Braze refuses this purchase, or None."""
    if type(item) is not dict:
        return "purchases must be objects"
    if (problem := _common_problem(item)) is not None:
        return problem
    if not _is_name(item.get("product_id")):
        return "'product_id' is required"
    currency = item.get("currency")
    if not (isinstance(currency, str) and len(currency) == 3 and currency.isalpha()):
        return "'currency' is not valid"
    if not _is_number(item.get("price")):
        return "'price' is not valid"
    quantity = item.get("quantity", 1)
    if type(quantity) is not int or not 1 <= quantity <= _MOST_BOUGHT:
        return "'quantity' is not valid"
    return _properties_problem(item)


_PROBLEMS: Final = {
    "attributes": attributes_problem,
    "events": event_problem,
    "purchases": purchase_problem,
}


def _identity_problem(item: dict[str, Any]) -> str | None:
    primary = ("external_id" in item) + ("user_alias" in item) + ("braze_id" in item)
    if primary == 1:
        return None
    if primary > 1:
        return NOT_ONE
    return None if item.get("email") or item.get("phone") else NOBODY


def _common_problem(item: dict[str, Any]) -> str | None:
    if (problem := _identity_problem(item)) is not None:
        return (
            "'external_id' or 'braze_id' or 'user_alias' is required"
            if problem is NOBODY
            else problem
        )
    for name in ("external_id", "user_alias", "braze_id", "_update_existing_only"):
        if name in item and (problem := FIELD_CHECKS[name](item[name])) is not None:
            return problem
    return None if is_time(item.get("time")) else "'time' is not valid"


def _token_import_problem(item: dict[str, Any]) -> str | None:
    if "external_id" in item or "braze_id" in item:
        return "'push_token_import' must omit 'external_id' and 'braze_id'"
    return None if item.get("push_tokens") else "'push_tokens' is required"


def _properties_problem(item: dict[str, Any]) -> str | None:
    properties = item.get("properties")
    if properties is None:
        return None
    if not isinstance(properties, dict):
        return "'properties' must be an object"
    for name in properties:
        if (problem := name_problem(name)) is not None:
            return problem.replace("attribute name", "property name")
    if len(orjson.dumps(properties)) > _PROPERTIES_BYTES:
        return f"'properties' must be {_PROPERTIES_BYTES // 1000} KB or smaller"
    return None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 255


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
