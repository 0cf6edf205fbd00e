"""`persona-sync send`: one change, or one Segment message as it is, into the inbox."""

import json
import sys
from typing import Annotated, Any

import orjson
import typer

from console.options import AsJson
from producer.json_text import MESSAGE_MAX_BYTES
from producer.messages import Message
from producer.publish import Producer, Published
from worker.contract import REASONS, ChangeClass, Refusal
from worker.settings import Settings


def send_command(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="The user id.")] = None,
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="The audience or trait key.")
    ] = None,
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="VALUE", help='JSON: true, false; for traits also 12, "gold" or gold.'
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Event time, ISO 8601; without: now.")
    ] = None,
    change_class: Annotated[
        ChangeClass, typer.Option("--class", help="What the key is.")
    ] = ChangeClass.AUDIENCE,
    message: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="A whole Segment message instead; - to read it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send one change: persona-sync send USER KEY VALUE.

    Exits 1 with the reason if it is refused or skipped.
    """
    what = _message(user, key, value, at, change_class, message)
    with Producer.from_settings(Settings.load()) as producer:
        published = producer.publish([what], source="send")
    reason = next((REASONS[code] for code in {**published.refused, **published.skipped}), None)
    if as_json:
        print(_as_json(published, reason))
    elif reason is None:
        print("Accepted.")
    else:
        print(f"{'Refused' if published.refused else 'Skipped'}: {reason}", file=sys.stderr)
        if Refusal.MEMBERSHIP_NOT_BOOLEAN in published.refused and message is None:
            print("If the key is a computed trait's, add --class trait.", file=sys.stderr)
    raise typer.Exit(0 if published.accepted else 1)


def _message(
    user: str | None,
    key: str | None,
    value: str | None,
    at: str | None,
    change_class: ChangeClass,
    message: str | None,
) -> Message:
    if message is not None:
        if user is not None or at is not None:
            raise typer.BadParameter(
                "it stands alone, without USER, KEY, VALUE and --at.", param_hint="--message"
            )
        # One byte more than allowed is enough to be refused for its length.
        return sys.stdin.buffer.read(MESSAGE_MAX_BYTES + 1) if message == "-" else message
    if user is None or key is None or value is None:
        raise typer.BadParameter("give all three, or --message.", param_hint="USER KEY VALUE")
    built: dict[str, Any] = {
        "type": "identify",
        "userId": user,
        "context": {"personas": {"computation_class": str(change_class), "computation_key": key}},
        "traits": {key: _value(value)},
    }
    if at is not None:
        built["timestamp"] = at
    return built


def _value(written: str) -> object:
    """JSON; a bare word is a string, which a trait takes and a membership refuses."""
    try:
        return orjson.loads(written)
    except orjson.JSONDecodeError:
        return written


def _as_json(published: Published, reason: str | None) -> str:
    return json.dumps(
        {
            "accepted": published.accepted,
            "refused": published.refused,
            "skipped": published.skipped,
            "reason": reason,
        }
    )
