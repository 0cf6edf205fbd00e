"""One statement as one line: the shapes in which Engage puts it on the wire.

Event time as a reader has to find it: with `originalTimestamp`, `timestamp` is corrected
already; else `receivedAt - (sentAt - timestamp)` if those two are there; else `timestamp`; else
the arrival. Each shape below writes the times so that this gives the statement's `at`.
"""

import json
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any, TypeAlias

from sandbox.engage.dice import Dice
from sandbox.engage.people import Person
from sandbox.engage.space import DAY, HOUR, SECOND, Computation, Scalar, Statement

Message: TypeAlias = dict[str, Any]

SPACE = "spa_1"
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KSUID_EPOCH = 1_400_000_000
RENAMED = ("VIP Status Changed", "segment_audience_update", "Order Completed", "Audience Entered")
"""What people call these events; nothing follows from the name."""


def encode(message: object, ascii_only: bool = False) -> bytes:
    """Compact JSON, with or without escapes for what is not ASCII."""
    return json.dumps(message, ensure_ascii=ascii_only, separators=(",", ":")).encode()


def message_of(statement: Statement, dice: Dice) -> Message:
    """The statement as identify or track, with the times written in one of six ways."""
    message = envelope(statement.person, statement.computation, statement.value, dice)
    message["messageId"] = message_id(statement.arrival, dice)
    if statement.ingredient != "untimed":
        message |= times(statement, dice)
    if statement.ingredient == "fan_out" or dice.chance(0.08):
        add_identifier(message, statement.person, dice)
    return message


def envelope(person: Person, computation: Computation, value: Scalar, dice: Dice) -> Message:
    """Who and what, without id and times."""
    user: str | int = person.id
    if person.numeric and dice.chance(0.8):
        user = int(person.id)
    if dice.chance(0.5):
        return identify(user, computation, value)
    return track(user, computation, value, dice)


def identify(user: object, computation: Computation, value: object) -> Message:
    """An Identify that carries one value."""
    return {
        "type": "identify",
        "userId": user,
        "context": {"personas": personas(computation)},
        "integrations": {"All": False, "Braze": True},
        "traits": {computation.key: value},
    }


def track(user: object, computation: Computation, value: object, dice: Dice) -> Message:
    """A Track that carries one value, under the usual event name or a renamed one."""
    membership = computation.value == "membership"
    event = ("Audience Entered" if value else "Audience Exited") if membership else "Trait Computed"
    properties = {"audience_key" if membership else "trait_key": computation.key}
    if dice.chance(0.1):
        properties = {}
    return {
        "type": "track",
        "event": dice.pick(RENAMED) if dice.chance(0.15) else event,
        "userId": user,
        "context": {"personas": personas(computation)},
        "integrations": {"All": False, "Braze": True},
        "properties": {**properties, computation.key: value},
    }


def personas(computation: Computation) -> Message:
    """What makes a message one of Engage."""
    return {
        "computation_class": computation.kind,
        "computation_id": computation.id,
        "computation_key": computation.key,
        "namespace": SPACE,
        "space_id": SPACE,
    }


def add_identifier(message: Message, person: Person, dice: Dice) -> None:
    """Name one more identifier of the person, as fan-out does."""
    copy = dice.below(4)
    if dice.chance(0.5):
        message["anonymousId"] = f"anon-{person.number}-{copy}"
        return
    holder = message if message["type"] == "identify" else message["context"]
    holder.setdefault("traits", {})["email"] = f"p{person.number}+{copy}@example.com"


def times(statement: Statement, dice: Dice) -> Message:
    """The time fields. Without `receivedAt` the arrival is unknown, so never for `exact` ones."""
    at, arrival = statement.at, statement.arrival
    roll = dice.random() * (0.75 if statement.exact else 1.0)
    if roll < 0.35:
        return {"timestamp": written(at, dice), "receivedAt": written(arrival, dice)}
    if roll < 0.6:
        wrong = skew(dice)
        return {
            "originalTimestamp": written(at + wrong, dice),
            "sentAt": written(arrival + wrong, dice),
            "timestamp": written(at, dice),
            "receivedAt": written(arrival, dice),
        }
    if roll < 0.75:
        wrong = skew(dice)
        return {
            "timestamp": written(at + wrong, dice),
            "sentAt": written(arrival + wrong, dice),
            "receivedAt": written(arrival, dice),
        }
    if roll < 0.9:
        return {"timestamp": written(at, dice)}
    if roll < 0.95:
        return {"timestamp": written(at, dice), "sentAt": written(at + skew(dice), dice)}
    return {"receivedAt": written(at, dice)}


def skew(dice: Dice) -> int:
    """How wrong the sender's clock is: mostly little, at times hours, either way."""
    reach = dice.pick((2 * SECOND, 90 * SECOND, 6 * HOUR, DAY))
    return dice.between(-reach, reach)


def written(moment: int, dice: Dice) -> str:
    """ISO 8601: mostly UTC with milliseconds, at times microseconds or another offset."""
    roll = dice.random()
    if roll < 0.96:
        return stamp(moment)
    if roll < 0.98:
        return f"{stamp(moment)[:-1]}000Z"
    instant = datetime.fromtimestamp(moment // 1000, UTC) + timedelta(milliseconds=moment % 1000)
    hours = dice.pick((2, -5))
    return instant.astimezone(timezone(timedelta(hours=hours))).isoformat(timespec="milliseconds")


def stamp(moment: int) -> str:
    """The moment as `2025-11-22T10:00:00.000Z`."""
    day, rest = divmod(moment, DAY)
    seconds, milliseconds = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_date(day)}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"


@cache
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


def message_id(moment: int, dice: Dice) -> str:
    """`personas_` and 27 characters that begin with the time, like a KSUID."""
    time_part = (moment // 1000 - KSUID_EPOCH << 128) // 62**21
    head = ""
    for _ in range(6):
        time_part, digit = divmod(time_part, 62)
        head = DIGITS[digit] + head
    return "personas_" + head + "".join([dice.pick(DIGITS) for _ in range(21)])
