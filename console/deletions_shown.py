"""What is told of deleted users: how many, what waits for Braze; of one, since and until when."""

from collections.abc import Iterator
from typing import Any

from console.destination import CONNECTED, as_shown, state_said
from console.instants import iso
from worker.stored import Stores


def deletions(stores: Stores, partitions: int, mode: str, now_ms: int) -> dict[str, Any]:
    """For `status`. `waiting`: deletions that Braze has not taken yet; no user is named."""
    counts = stores.deletions.counts(partitions, now_ms)
    return {
        "users": counts.deleted,
        "suppressed": counts.suppressed,
        "erasing": counts.erasing,
        "forwarded": stores.forwards.taken(partitions),
        "waiting": stores.forwards.waiting(partitions),
        "braze": as_shown(stores.delete_allowance.destination(), mode, now_ms),
    }


def deletion_rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Lines for people; none if nobody was ever deleted."""
    if not found["users"] and not found["waiting"]:
        return
    said = f"{found['users']:,} users, changes of {found['suppressed']:,} are skipped"
    if found["erasing"]:
        said += f"; {found['erasing']:,} still in dead letters or journal"
    yield "deleted", said
    if found["waiting"] or found["forwarded"]:
        said = f"{found['forwarded']:,} taken by Braze, {found['waiting']:,} waiting"
        if found["waiting"] and found["braze"]["state"] != CONNECTED:
            said += f" ({state_said(**found['braze'])})"
        yield "profiles", said


def deletion_of(stores: Stores, partition: int, user_id: str) -> dict[str, Any] | None:
    """For `trace`; None if no deletion of this user is remembered."""
    found = stores.deletions.remembered(partition, user_id, stores.allowance.now_ms())
    if found is None:
        return None
    return {
        "at": iso(found.at_ms) if found.at_ms is not None else None,
        "skipped_until": iso(found.until_ms) if found.until_ms is not None else None,
        "waits_for_braze": found.asks_braze,
    }


def deletion_said(user: str, found: dict[str, Any]) -> str:
    """The same as a sentence."""
    at = f" at {found['at']}" if found["at"] else ""
    said = f"User {user} was deleted{at}"
    if found["skipped_until"]:
        said += f"; changes are skipped until {found['skipped_until']}"
    elif found["waits_for_braze"]:
        said += "; changes are skipped until Braze has taken it"
    if found["waits_for_braze"]:
        said += "; Braze has not taken the deletion yet"
    return said + "."
