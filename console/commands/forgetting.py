"""`persona-sync forget USER`: deletes what is known of a user; later changes are skipped."""

import json as json_module
import sys
from typing import Annotated
from uuid import uuid4

import typer

from console.who import this_operator
from producer.envelopes import Addressed
from producer.publish import Producer
from producer.refusals import ProducerRefused
from worker.contract import USER_ID_MAX_BYTES, Deletion, partition_of
from worker.durations import format_duration
from worker.settings import Settings
from worker.stored import make_stores
from worker.stores.operators import Operators


def forget_command(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user id.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="NAME", help="Who does this; without it LOGIN@MACHINE."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Delete a user: state, pending sends, dead letters, journal. It cannot be undone.

    Later changes of the user are skipped for a time. Exits 1 if the inbox takes nothing now.
    """
    if not 0 < len(user_id.encode()) <= USER_ID_MAX_BYTES:
        raise typer.BadParameter(f"a user id has 1 to {USER_ID_MAX_BYTES} bytes", param_hint="USER")
    settings = Settings.load()
    if not yes:
        _confirm(settings)
    envelope = Deletion(id=f"forget:{uuid4().hex}", user_id=user_id, source="forget")
    try:
        with Producer.from_settings(settings) as producer:
            partition = partition_of(user_id, producer.partitions)
            producer.append([Addressed.of(envelope, partition)])
    except ProducerRefused as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    operator = this_operator(by)
    _note(settings, operator, envelope.id)
    if as_json:
        said = {
            "accepted": True,
            "by": operator,
            "envelope": envelope.id,
            "skipped_for": format_duration(settings.deletion_memory),
            "forwarded": settings.forward_deletes,
        }
        print(json_module.dumps(said))
    else:
        print("Accepted; `persona-sync trace USER` says when it is done.")


def _note(settings: Settings, by: str, envelope: str) -> None:
    """Write down who did it; the user is not named, since the journal outlives them."""
    stores = make_stores(settings)
    with stores.client:
        operators = Operators(stores.client, settings.same_attribute_gap, settings.journal_bytes)
        operators.note(by, "forget", envelope)


def _confirm(settings: Settings) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked; give --yes", param_hint="--yes")
    said = (
        "All that is known of this user is deleted, and changes are skipped for "
        f"{format_duration(settings.deletion_memory)}."
    )
    if settings.forward_deletes:
        said += " Braze deletes the profile, too, for good."
    print(said, file=sys.stderr)
    typer.confirm("Delete?", abort=True, err=True)
