"""Frozen records of what happened. Logs, counters and the Debugger are their readers.

A fact carries ids and counts, never a body, a key or a value.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened; `name` is static, so that logs can be searched for it."""

    name: str = ""
    level: Level = "info"


@dataclass(frozen=True, slots=True)
class EnvelopeApplied(Fact):
    """An inbox entry was folded and acknowledged."""

    name: str = "envelope_applied"
    level: Level = "debug"
    entry: str = ""
    changes: int = 0
    opened: int = 0
    superseded: int = 0
    unchanged: int = 0
    dead: int = 0
    skipped: int = 0
    clamped: int = 0


@dataclass(frozen=True, slots=True)
class EnvelopeRefused(Fact):
    """An inbox entry cannot be applied; it is in the dead letters, whole."""

    name: str = "envelope_refused"
    level: Level = "error"
    entry: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EnvelopeFailed(Fact):
    """Applying an inbox entry failed; it stays in the inbox and is tried again."""

    name: str = "envelope_failed"
    level: Level = "error"
    entry: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RequestEnded(Fact):
    """One request to Braze, with what it meant for the users in it."""

    name: str = "request_ended"
    level: Level = "debug"
    lane: str = ""
    request: str = ""
    status: str = ""
    users: int = 0
    delivered: int = 0
    retry: int = 0
    unknown: int = 0
    dead: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DestinationSlowed(Fact):
    """Braze limits us or is in trouble; all workers wait."""

    name: str = "destination_slowed"
    level: Level = "warning"
    reason: str = ""
    seconds: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class DestinationStopped(Fact):
    """Nothing is sent until somebody or a probe says otherwise. `todo` says what to do."""

    name: str = "destination_stopped"
    level: Level = "error"
    reason: str = ""
    todo: str = ""


@dataclass(frozen=True, slots=True)
class DestinationUnreachable(Fact):
    """Nothing has got through for `seconds`; workers go on trying by themselves."""

    name: str = "destination_unreachable"
    level: Level = "error"
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DestinationResumed(Fact):
    """Sending goes on. `by`: `probe`, `answer` (trouble that lasted `seconds` has passed by
    itself), or an operator. `was_noticed`: persons were told of that trouble."""

    name: str = "destination_resumed"
    by: str = ""
    seconds: float = 0.0
    was_noticed: bool = False


@dataclass(frozen=True, slots=True)
class ModeEntered(Fact):
    """A worker starts. In shadow mode it sends nothing; `adopted` is what became of the values
    that a shadow before it had acknowledged."""

    name: str = "mode_entered"
    mode: str = ""
    adopted: str = ""
    users: int = 0
    values: int = 0


@dataclass(frozen=True, slots=True)
class ShadowOver(Fact):
    """A worker in shadow mode finds that the others have gone live: it does nothing any more."""

    name: str = "shadow_over"
    level: Level = "error"


@dataclass(frozen=True, slots=True)
class RegistryPublished(Fact):
    """All workers go by another registry, or by another order of an operator: keys that got a rule,
    that lost theirs, that changed lanes, that have other boundaries, and that are not sent any more
    because their name is another key's. `host`: where the file was read; `replaced`: the version
    before."""

    name: str = "registry_published"
    version: str = ""
    replaced: str = ""
    host: str = ""
    added: str = ""
    removed: str = ""
    moved: str = ""
    timed: str = ""
    shadowed: str = ""


@dataclass(frozen=True, slots=True)
class RegistryBroken(Fact):
    """A file cannot be taken up; the registry before it stays in force. `more` lines say what else
    is wrong; `check` shows them all."""

    name: str = "registry_broken"
    level: Level = "error"
    reason: str = ""
    more: int = 0
    host: str = ""


@dataclass(frozen=True, slots=True)
class SweepBegun(Fact):
    """Many users are concerned by new rules: `points` to be sent to `users` in `requests`, which
    takes `seconds` at least. `left_behind`: an attribute of that name keeps its last values."""

    name: str = "sweep_begun"
    work: str = ""
    audience: str = ""
    users: int = 0
    points: int = 0
    requests: int = 0
    seconds: float = 0.0
    left_behind: str = ""


@dataclass(frozen=True, slots=True)
class SweepEnded(Fact):
    """All users of a partition have been gone through; what is due for it is sent as usual."""

    name: str = "sweep_ended"
    work: str = ""
    audience: str = ""
    users: int = 0
    changed: int = 0
    points: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ClaimVoid(Fact):
    """A worker was lost with a claim; what it sent is unknown and is sent again."""

    name: str = "claim_void"
    level: Level = "warning"
    claim: str = ""
    users: int = 0


@dataclass(frozen=True, slots=True)
class WorkerLost(Fact):
    """All claims that were found void together, with the `users` in them."""

    name: str = "worker_lost"
    level: Level = "warning"
    claims: int = 0
    users: int = 0


@dataclass(frozen=True, slots=True)
class ClaimGone(Fact):
    """A claim was settled after its lease: its values are unknown already, nothing changed.
    Seen often, the worker is frozen or starved for longer than a lease."""

    name: str = "claim_gone"
    level: Level = "warning"
    claim: str = ""
    users: int = 0


@dataclass(frozen=True, slots=True)
class ServerReplaced(Fact):
    """The server was restarted, or another one took over: it may have forgotten the last moments.
    For `seconds` nobody claims (0: another worker has seen to that). `forgotten` values that this
    worker had sent are unknown now and are sent again."""

    name: str = "server_replaced"
    level: Level = "warning"
    seconds: float = 0.0
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class UserDeleted(Fact):
    """A user was forgotten: `attributes` of state; `skipped` changes that were open ended so."""

    name: str = "user_deleted"
    entry: str = ""
    attributes: int = 0
    skipped: int = 0
    in_flight: bool = False
    asks_braze: bool = False


@dataclass(frozen=True, slots=True)
class UsersErased(Fact):
    """Deleted users are named by no dead letter and no journal entry any more."""

    name: str = "users_erased"
    users: int = 0


@dataclass(frozen=True, slots=True)
class DeletesAsked(Fact):
    """One request to Braze to delete profiles, with what became of the users in it."""

    name: str = "deletes_asked"
    request: str = ""
    status: str = ""
    users: int = 0
    taken: int = 0
    again: int = 0
    refused: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeletesStopped(Fact):
    """Braze lets us delete no profiles; deletions wait, everything else goes on."""

    name: str = "deletes_stopped"
    level: Level = "error"
    reason: str = ""
    todo: str = ""


@dataclass(frozen=True, slots=True)
class DeletesResumed(Fact):
    """Braze lets us delete profiles again."""

    name: str = "deletes_resumed"


@dataclass(frozen=True, slots=True)
class BellFailed(Fact):
    """A doorbell could not be rung; the tick rings again."""

    name: str = "bell_failed"
    level: Level = "warning"
    task: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BudgetReached(Fact):
    """The data points of this UTC day are spent: an audience's, or without one those of all. What
    would go over waits."""

    name: str = "budget_reached"
    level: Level = "warning"
    audience: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class FlipsUnusual(Fact):
    """Far more memberships of an audience changed in this hour than usual. Nothing is held."""

    name: str = "flips_unusual"
    level: Level = "warning"
    audience: str = ""
    flips: int = 0
    median: float = 0.0
    busiest: int = 0


@dataclass(frozen=True, slots=True)
class NoticeNotSent(Fact):
    """The webhook did not take a notice; it is tried again unless it was `given_up`. The notice
    is in the log and in `status` all the same."""

    name: str = "notice_not_sent"
    level: Level = "warning"
    reason: str = ""
    tries: int = 0
    given_up: bool = False
