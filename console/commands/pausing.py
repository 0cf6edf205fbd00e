"""`persona-sync pause` and `resume`: hold back everything that goes to Braze, and let it go."""

from typing import Any

import orjson
import typer

from console.deployment import Deployment, opened
from console.destination import CONNECTED, SHADOW, destination_shown, state_said, stop_said
from console.instants import iso
from console.options import AsJson, By, Why
from console.who import one_line, this_operator
from worker.pipeline.facts import DestinationResumed
from worker.pipeline.notices import notice_of
from worker.stores.allowance import OPERATOR, Destination

# What a resume does not mend by itself.
_CAUSES = {
    "valve": "If Braze goes on refusing as many objects, the valve stops it again.",
    "invalid_key_or_wrong_instance": "If Braze still refuses the key, the next request stops it "
    "again.",
}
_NEXT_REQUEST = "If the cause is still there, the next request stops it again."


def pause_command(why: Why = "", by: By = None, as_json: AsJson = False) -> None:
    """Send nothing to Braze until `resume`, from any worker. Changes are still accepted.

    Requests that are under way come to their end.
    """
    with opened() as deployment:
        report = pause(deployment, this_operator(by), one_line(why))
    _say(report, as_json, _paused_said(report))


def resume_command(by: By = None, as_json: AsJson = False) -> None:
    """Lift a pause, the valve, or a stop for refused credentials, and say which it was."""
    with opened() as deployment:
        report = resume(deployment, this_operator(by))
    _say(report, as_json, _resumed_said(report))


def pause(deployment: Deployment, by: str, why: str) -> dict[str, Any]:
    """Pause; `instead_of` is the stop that this one replaces, or null."""
    allowance = deployment.stores.allowance
    before = allowance.hold(by, why)
    deployment.operators.note(by, "pause", why)
    now = allowance.destination()
    return {
        "paused": True,
        "by": by,
        "why": why or None,
        "since": iso(now.stopped_at_ms) if now.stopped_at_ms else None,
        "instead_of": _shown(before) if before.stop else None,
    }


def resume(deployment: Deployment, by: str) -> dict[str, Any]:
    """Resume; `cleared` is the stop that was lifted, or null. `state` is what follows."""
    stores, operators = deployment.stores, deployment.operators
    lifted = stores.allowance.release()
    if lifted is not None:
        operators.note(by, "resume", lifted.stop or "")
        if lifted.stop != OPERATOR and (notice := notice_of(DestinationResumed(by=by))):
            # Whoever was told of the stop is told of its end; a new stop is told again.
            stores.notices.add(notice, for_webhook=False)
    deletes = stores.delete_allowance.release()
    if deletes is not None:
        operators.note(by, "resume", f"deletes: {deletes.stop or ''}")
    return {
        "resumed": lifted is not None,
        "by": by,
        "cleared": _shown(lifted) if lifted is not None else None,
        "deletes_resumed": deletes is not None,
        **destination_shown(stores),
    }


def _shown(found: Destination) -> dict[str, Any]:
    return {
        "stop": found.stop,
        "by": found.by if found.stop == OPERATOR else None,
        "why": found.why if found.stop == OPERATOR else None,
        "since": iso(found.stopped_at_ms) if found.stopped_at_ms else None,
    }


def _paused_said(report: dict[str, Any]) -> str:
    said = "Paused. Nothing is sent to Braze until `persona-sync resume`; changes are accepted."
    before = report["instead_of"]
    return f"{said}\nIt was stopped before: {_stop_text(before)}." if before else said


def _resumed_said(report: dict[str, Any]) -> str:
    cleared = report["cleared"]
    if cleared is None and report["deletes_resumed"]:
        said = "Cleared: Braze is asked to delete profiles again. Nothing else was stopped."
    elif cleared is None:
        said = "There was nothing to resume: the destination was not stopped."
    else:
        said = f"Cleared: {_stop_text(cleared)}. Sending goes on within a second."
        if not cleared["stop"].startswith(OPERATOR):
            said += f"\n{_CAUSES.get(cleared['stop'], _NEXT_REQUEST)}"
    if report["state"] == SHADOW:
        return f"{said}\nThis is a shadow: nothing reaches Braze all the same."
    if report["state"] != CONNECTED:
        still = state_said(report["state"], report["reason"], report["until"])
        return f"{said}\nBraze is still {still}. This passes."
    return said


def _stop_text(shown: dict[str, Any]) -> str:
    return stop_said(shown["stop"], shown["by"], shown["why"], shown["since"])


def _say(report: dict[str, Any], as_json: bool, said: str) -> None:
    typer.echo(orjson.dumps(report).decode() if as_json else said)
