"""One thing that was looked at, and what to do about it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Around text that is not ours, until a finding is shown: a sentence of ours never holds them.
_BEGIN, _END = "\x02", "\x03"
_FOREIGN = re.compile(f"{_BEGIN}([^{_END}]*){_END}")


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


def from_outside(text: str) -> str:
    """Text of a server, an exception or a setting, inside a sentence of ours: it may repeat a
    secret, which our own words never do. Only this is searched for secrets, see `cleaned`."""
    return f"{_BEGIN}{text.replace(_BEGIN, '').replace(_END, '')}{_END}"


def cleaned(finding: Finding, clean: Callable[[str], str]) -> Finding:
    """The finding as it is shown: `clean` is applied to what came from outside, to nothing else."""

    def shown(text: str) -> str:
        return _FOREIGN.sub(lambda found: clean(found[1]), text)

    todo = shown(finding.todo) if finding.todo else None
    return Finding(finding.check, finding.ok, shown(finding.detail), todo)


def all_unseen(checks: Iterable[str], why: str) -> list[Finding]:
    """None of these could be looked at."""
    return [unseen(check, why) for check in checks]
