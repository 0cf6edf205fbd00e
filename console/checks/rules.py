"""What the workers run with, against each other and against the settings of this shell."""

from collections.abc import Mapping
from typing import Any

from console.checks.finding import Finding, bad, good, unseen
from worker.bootstrap import rules_of
from worker.settings import Settings
from worker.stored import Stores

CHECK = "settings_in_force"
_SHOWN = 6


def look_at_rules(stores: Stores, settings: Settings) -> Finding:
    """Workers that differ among themselves are bad; a shell that differs is a warning."""
    running = stores.in_force.alive()
    if not running:
        return unseen(CHECK, "no worker is alive to say what it runs with")
    newest, *others = running
    for other in others:
        if apart := differences(_named(newest.settings), _named(other.settings)):
            return bad(
                CHECK,
                f"workers differ: {_listed(apart, f'at {newest.worker}', f'at {other.worker}')}",
                "Give all workers the same settings, and restart those that are wrong.",
            )
    if apart := differences(_named(_here(settings)), _named(newest.settings)):
        return good(
            CHECK,
            f"this shell differs from the workers: {_listed(apart, 'here', 'there')}",
            "What `status` says is the workers'. If this shell is right, restart them with its "
            "settings; otherwise set here what they have.",
        )
    return good(CHECK, "the workers run with the settings of this shell")


def _here(settings: Settings) -> dict[str, Any]:
    """What this shell says. An address of Braze that is none is told as wrong, not as missing."""
    here: dict[str, Any] = dict(rules_of(settings))
    if settings.braze_endpoint and here["braze_endpoint"] is None:
        here["braze_endpoint"] = "wrong"
    return here


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What is not the same, by name; None for what one of them has not set."""
    names = sorted(here.keys() | there.keys())
    return [
        (name, here.get(name), there.get(name))
        for name in names
        if here.get(name) != there.get(name)
    ]


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {f"PERSONA_SYNC_{name.upper()}": value for name, value in settings.items()}


def _listed(apart: list[tuple[str, Any, Any]], here: str, there: str) -> str:
    said = [
        f"{name} is {_shown(mine)} {here}, {_shown(theirs)} {there}"
        for name, mine, theirs in apart[:_SHOWN]
    ]
    more = len(apart) - _SHOWN
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)
