"""`persona-sync forget USER`: deletes what is known of a user; later changes are skipped."""

import json
from typing import Annotated
from uuid import uuid4

import typer

from console.asking import insist
from console.deployment import Deployment, opened
from console.options import AsJson, By, Yes
from console.who import this_operator
from producer.envelopes import Addressed
from producer.publish import Producer
from worker.contract import USER_ID_MAX_BYTES, Deletion, partition_of
from worker.durations import format_duration


def forget_command(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user id.")],
    yes: Yes = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Delete a user: state, pending sends, dead letters, journal. It cannot be undone.

    Later changes of the user are skipped for a time. It asks first; without a terminal it needs
    --yes. Exits 1 if the inbox takes nothing now.
    """
    if not 0 < len(user_id.encode()) <= USER_ID_MAX_BYTES:
        raise typer.BadParameter(f"a user id has 1 to {USER_ID_MAX_BYTES} bytes", param_hint="USER")
    with opened() as deployment:
        memory = format_duration(deployment.span("deletion_memory"))
        is_forwarded = bool(deployment.number("forward_deletes"))
        insist(_question(memory, is_forwarded), yes)
        envelope = Deletion(id=f"forget:{uuid4().hex}", user_id=user_id, source="forget")
        _append(deployment, envelope)
        operator = this_operator(by)
        # The user is not named, since the journal outlives them.
        deployment.operators.note(operator, "forget", envelope.id)
    if as_json:
        said = {
            "accepted": True,
            "by": operator,
            "envelope": envelope.id,
            "skipped_for": memory,
            "forwarded": is_forwarded,
        }
        print(json.dumps(said))
    else:
        print("Accepted; `persona-sync trace USER` says when it is done.")


def _append(deployment: Deployment, envelope: Deletion) -> None:
    with Producer.from_settings(deployment.settings) as producer:
        partition = partition_of(envelope.user_id, producer.partitions)
        producer.append([Addressed.of(envelope, partition)])


def _question(memory: str, is_forwarded: bool) -> str:
    said = f"All that is known of this user is deleted, and changes are skipped for {memory}."
    if is_forwarded:
        said += " Braze deletes the profile, too, for good."
    return f"{said}\nDelete?"
