"""One thing that was looked at, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok` None: it could not be looked at, `detail` says why. `todo` is one sentence; with `ok`
    True it is a warning: it works, but not as well as it could."""

    check: str
    ok: bool | None
    detail: str
    todo: str | None = None


def good(check: str, detail: str, but: str | None = None) -> Finding:
    """As it should be; `but` makes it a warning."""
    return Finding(check, True, detail, but)


def bad(check: str, detail: str, todo: str) -> Finding:
    """Wrong, and what to do."""
    return Finding(check, False, detail, todo)


def unseen(check: str, why: str) -> Finding:
    """It could not be looked at."""
    return Finding(check, None, why)


def all_unseen(checks: Iterable[str], why: str) -> list[Finding]:
    """None of these could be looked at."""
    return [unseen(check, why) for check in checks]
