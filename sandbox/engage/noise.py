"""Lines that must change nothing: refused with a reason, skipped with a reason, or empty.

A line with two faults counts for the one that is looked for first: JSON, object, kind of
message, key, user id, value, times. Refused lines are dated after everybody's life and half of
them name real people, so a reader that lets one through ends with a wrong profile.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

from sandbox.engage.dice import Dice
from sandbox.engage.messages import Message, encode, envelope, identify, message_id, stamp, track
from sandbox.engage.people import LONGEST_ID, Person
from sandbox.engage.space import (
    COMPUTATIONS,
    DAY,
    END,
    MINUTE,
    SECOND,
    START,
    Computation,
)

JUNK_FROM = END + 5 * DAY
"""Later than anything that counts, and before 2026."""

Maker: TypeAlias = Callable[["Noise"], bytes]


class Noise:
    """Makes the lines; each reason and each of its varieties in turn."""

    def __init__(self, dice: Dice, people: list[Person]) -> None:
        self.dice = dice
        self._people = people
        self._ghosts = 0

    def lines(self, messages: int) -> Iterator[tuple[bytes, str, int]]:
        """(line, reason, place in the file) for a file of that many lines."""
        for reason, (share, makers) in {**REFUSED, **SKIPPED}.items():
            for number in range(max(len(makers), round(share * messages))):
                text = makers[number % len(makers)](self)
                yield text, reason, self.place()

    def place(self) -> int:
        """Anywhere in the file."""
        return START + self.dice.below(END - START)

    def somebody(self) -> Person:
        """A real person, or one of whom nothing valid is ever said."""
        if self._people and self.dice.chance(0.5):
            return self.dice.pick(self._people)
        self._ghosts += 1
        return Person(-self._ghosts, f"ghost-{self._ghosts}")

    def membership(self) -> Computation:
        """One of the audiences or journey steps."""
        return self.dice.pick([one for one in COMPUTATIONS if one.value == "membership"])

    def trait(self) -> Computation:
        """One of the computed traits."""
        return self.dice.pick([one for one in COMPUTATIONS if one.value != "membership"])

    def dated(self, message: Message) -> Message:
        """With an id and sound times, newer than all that counts."""
        at = JUNK_FROM + self.dice.below(DAY)
        message["messageId"] = message_id(at, self.dice)
        message["timestamp"] = stamp(at)
        message["receivedAt"] = stamp(at + self.dice.below(9 * SECOND))
        return message

    def sound(self) -> Message:
        """A message without fault."""
        return self.dated(envelope(self.somebody(), self.membership(), True, self.dice))


def _said(computation: Callable[[Noise], Computation], value: object) -> Maker:
    """A message whose only fault is its value."""

    def make(noise: Noise) -> bytes:
        what, user = computation(noise), noise.somebody().id
        if noise.dice.chance(0.5):
            return encode(noise.dated(identify(user, what, value)))
        return encode(noise.dated(track(user, what, value, noise.dice)))

    return make


def _member(value: object) -> Maker:
    return _said(Noise.membership, value)


def _trait(value: object) -> Maker:
    return _said(Noise.trait, value)


def _step_without_value(noise: Noise) -> bytes:
    step = next(one for one in COMPUTATIONS if one.kind == "journey_step")
    message = noise.dated(identify(noise.somebody().id, step, True))
    del message["traits"][step.key]
    return encode(message)


def _key(key: str, user_id: bool = True) -> Maker:
    """A message under another key; without a user the key is still what is wrong first."""

    def make(noise: Noise) -> bytes:
        what = replace(noise.membership(), key=key)
        message = noise.dated(identify(noise.somebody().id, what, True))
        if not user_id:
            del message["userId"]
        return encode(message)

    return make


def _no_key(present: bool) -> Maker:
    def make(noise: Noise) -> bytes:
        message = noise.sound()
        named = message["context"]["personas"]
        if present:
            named["computation_key"] = ""
        else:
            del named["computation_key"]
        return encode(message)

    return make


def _user(id_: str) -> Maker:
    def make(noise: Noise) -> bytes:
        return encode(noise.dated(envelope(Person(0, id_), noise.membership(), True, noise.dice)))

    return make


def _time(field: str, text: str) -> Maker:
    def make(noise: Noise) -> bytes:
        return encode({**noise.sound(), field: text})

    return make


def _broken(damage: Callable[[bytes], bytes]) -> Maker:
    return lambda noise: damage(encode(noise.sound()))


def _literal(value: object) -> Maker:
    return lambda noise: encode(value)


def _batch(noise: Noise) -> bytes:
    return encode([noise.sound(), noise.sound()])


def _without_user(**user: Any) -> Maker:
    """Somebody anonymous: the key may be absent, null or empty."""

    def make(noise: Noise) -> bytes:
        message = noise.sound()
        del message["userId"]
        return encode({**message, "anonymousId": f"anon-x{noise.dice.below(9999)}", **user})

    return make


def _plain(**fields: Any) -> Maker:
    """A message that no computation made."""

    def make(noise: Noise) -> bytes:
        at = noise.place()
        return encode(
            {
                "messageId": f"api-{noise.dice.below(10**9):09}",
                "userId": noise.somebody().id,
                "timestamp": stamp(at),
                "receivedAt": stamp(at + noise.dice.below(MINUTE)),
                **fields,
            }
        )

    return make


def _account_audience(noise: Noise) -> bytes:
    message = noise.dated(identify(noise.somebody().id, noise.membership(), True))
    return encode({**message, "type": "group", "groupId": "acme"})


def _other_class(noise: Noise) -> bytes:
    message = noise.sound()
    message["context"]["personas"]["computation_class"] = "prediction"
    return encode(message)


REFUSED: dict[str, tuple[float, tuple[Maker, ...]]] = {
    "broken_json": (
        0.003,
        (
            _broken(lambda line: line[: len(line) // 2]),
            _broken(lambda line: line[:-1] + b",}"),
            _broken(lambda line: line.replace(b'"', b"'")),
            _broken(lambda line: line.replace(b'"userId":"', b'"userId":"\xff\xfe', 1) + b"}"),
            _broken(lambda line: line + line),
            lambda noise: b"userId,audience,value",
        ),
    ),
    "not_an_object": (
        0.002,
        (_literal([]), _batch, _literal(42), _literal("vip"), _literal(None), _literal(True)),
    ),
    "missing_attribute_key": (0.002, (_no_key(False), _no_key(True))),
    "reserved_attribute": (
        0.003,
        (
            *map(_key, ("email", "first_name", "country", "dob", "phone", "gender")),
            _key("email", user_id=False),
        ),
    ),
    "invalid_attribute_name": (0.002, (_key("$vip"), _key("$"), _key("$spend_180"))),
    "attribute_name_too_long": (0.001, (_key("k" * 256), _key("key_" * 100))),
    "user_id_too_long": (
        0.001,
        (_user("y" * (LONGEST_ID + 1)), _user("長" * (LONGEST_ID // 3 + 1)), _user("z" * 5000)),
    ),
    "membership_not_boolean": (
        0.005,
        (_member("true"), _member(1), _member("false"), _member(0), _step_without_value),
    ),
    "value_not_scalar": (
        0.003,
        (_trait({"amount": 450}), _trait(["Shoes"]), _trait(None), _trait({}), _trait([])),
    ),
    "unreadable_timestamp": (
        0.003,
        (
            _time("timestamp", "yesterday"),
            _time("timestamp", "2025-13-01T00:00:00.000Z"),
            _time("timestamp", "2025-02-30T10:00:00.000Z"),
            _time("receivedAt", "12/26/2025 10:00 AM"),
        ),
    ),
}
"""Share of the file per reason, and its varieties. All of these are refused."""

SKIPPED: dict[str, tuple[float, tuple[Maker, ...]]] = {
    "no_user_id": (0.03, (_without_user(), _without_user(userId=None), _without_user(userId=""))),
    "not_an_audience_message": (
        0.025,
        (
            _plain(type="track", event="Order Completed", properties={"total": 19.9}),
            _plain(type="track", event="Audience Entered", properties={"vip": True}),
            _plain(type="identify", traits={"vip": True, "plan": "pro"}),
            _plain(type="page", name="Home", properties={"path": "/"}),
            _plain(type="screen", name="Start"),
            _plain(type="group", groupId="acme", traits={"seats": 5}),
            _plain(type="alias", previousId="anon-1"),
            _plain(type="track", event="Opened", context=None, properties={}),
            _account_audience,
            _other_class,
            _literal({}),
        ),
    ),
}
"""Share of the file per reason, and its varieties. All of these are skipped."""
