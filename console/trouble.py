"""Trouble that a user can mend, of all the errors that a command may end with: in a sentence.

Classes are named by their place, so that nobody pays for the import of what was not used.
"""

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from redis.exceptions import ResponseError

    from worker.settings import NothingRunning


def expected_trouble(error: Exception) -> tuple[int, str] | None:
    """Exit code and sentence for trouble that a user can mend; None for a defect of ours."""
    if any(_is_a(error, kind) for kind in _WRONG_USE):
        return 2, str(error)
    if _is_a(error, "worker.settings:NothingRunning"):
        from console.up_lock import nothing_running_said

        return 1, nothing_running_said(cast("NothingRunning", error))
    if any(_is_a(error, kind) for kind in _BAD_NEWS):
        return 1, str(error)
    if _is_a(error, "redis.exceptions:ResponseError"):
        from console.checks.refusals import refusal_said

        said = refusal_said(cast("ResponseError", error))
        if said is not None:
            return 1, said
    for kind in _SERVER_TROUBLE:
        if _is_a(error, kind):
            from console.paper import without_login

            return 1, (
                f"The Redis server does not answer as it should: {without_login(str(error))}. "
                "See that it runs and that PERSONA_SYNC_REDIS_URL, or PERSONA_SYNC_DATA_DIR for "
                "the embedded one, is right."
            )
    return None


# The messages of these are written for the user.
_WRONG_USE = (
    "worker.settings:WrongSettings",
    "worker.braze.instances:UnknownInstance",
    "worker.audiences.registry:WrongRegistry",
)
_BAD_NEWS = (
    "worker.stored:UnfitServer",
    "console.data_folder:ServerFailed",
    "producer.refusals:ProducerRefused",
    "worker.stores.publication:RetiredKey",
    "worker.stores.publication:ChangedMeanwhile",
)
_SERVER_TROUBLE = (
    "redis.exceptions:ConnectionError",  # refused logins and loading servers are among these
    "redis.exceptions:TimeoutError",
    "kombu.exceptions:OperationalError",
)


def _is_a(error: Exception, place: str) -> bool:
    """Is it of that class? A module that was never imported has raised nothing."""
    module, _, name = place.partition(":")
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(error, kind)
