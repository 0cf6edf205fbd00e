"""`POST /webhooks/segment`: what Segment's classic and Actions webhooks send.

One message, signed; or an array of them. Segment signs only the first message of an array, so
the others could be anybody's: an array must bring our own token as well.
"""

import asyncio
from functools import partial
from typing import Any
from uuid import uuid4

from producer.fields import known_user, user_id_of
from producer.http.asked import Asked
from producer.http.auth import Secrets
from producer.http.exact import Exactly
from producer.http.ingest import is_long, kind_of
from producer.http.intake import Intake
from producer.http.limits import WEBHOOK_MAX_MESSAGES
from producer.http.packing import Item
from producer.http.reading import Reading
from producer.http.replies import Declined, Reply
from producer.http.signature import is_first_signed, is_signed
from producer.http.tracking import MESSAGES_AT_ONCE, told_apart
from producer.instants import UnreadableInstant, read_instant
from producer.json_text import MESSAGE_MAX_BYTES, BrokenJson, read_json
from producer.messages import Refused, Skipped, read_parsed
from worker.contract import Deletion, Refusal, Skip

SOURCE = "webhook"
_SPACE = b" \t\r\n"
_AT_ONCE = 256 * 1024  # longer ones are signed beside the event loop


class Webhook:
    """The route of Segment's webhooks; `limit` is the longest body in bytes."""

    def __init__(self, intake: Intake, limit: int) -> None:
        self._intake = intake
        self._limit = limit

    async def __call__(self, asked: Asked) -> Reply:
        """200 once everything accepted is on disk. It only appends, so it is quick."""
        intake = self._intake
        secrets = intake.secrets()
        signature = asked.header(b"x-signature")
        if not secrets.shared_secrets:
            raise _refused(
                "No shared secret is set up here: set PERSONA_SYNC_SHARED_SECRET to the webhook's "
                "Shared Secret."
            )
        if not signature:
            raise _refused(
                "X-Signature is missing: give the webhook a Shared Secret in Segment, the same "
                "that is set up here."
            )
        intake.refuse_early()
        body = await intake.body(asked, self._limit, may_be_packed=False)
        if len(body) > _AT_ONCE:
            await asyncio.to_thread(_check, secrets, asked, body, signature)
        else:
            _check(secrets, asked, body, signature)
        with intake.counting(SOURCE, asked):
            messages = _messages(body)
        reading = Reading(asked.id)
        exactly = Exactly(body, lambda found: found if isinstance(found, list) else [found])
        for index, message in enumerate(messages):
            if index and index % MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
            kind = _kind_of(message)
            may_be_long = kind != "delete" and len(body) > MESSAGE_MAX_BYTES
            if may_be_long and isinstance(message, dict) and is_long(message):
                user = known_user(message.get("userId"), partial(exactly.user_id, index))
                reading.add(index, kind, Refused(Refusal.LINE_TOO_LONG, user))
                continue
            reading.add(index, kind, _read(message, kind, index, exactly))
        return await intake.take(reading, SOURCE, asked)


def _check(secrets: Secrets, asked: Asked, body: bytes, signature: bytes) -> None:
    """Raises Declined (401) unless every message of the body is known to be Segment's."""
    if not body.lstrip(_SPACE).startswith(b"["):
        if not any(is_signed(secret, body, signature) for secret in secrets.shared_secrets):
            raise _wrong_signature()
        return
    # Asked for first: finding the first message in an array costs more than a comparison.
    if not secrets.has_token(asked.header(b"authorization")):
        raise _refused(
            "Segment signs only the first message of an array. Turn batching off in the webhook, "
            "or set PERSONA_SYNC_WEBHOOK_TOKEN here and add the header "
            "`Authorization: Bearer TOKEN` to the webhook."
        )
    for secret in secrets.shared_secrets:
        if is_signed(secret, body, signature) or is_first_signed(secret, body, signature):
            return
    raise _wrong_signature()


def _messages(body: bytes) -> list[Any]:
    try:
        found = read_json(body)
    except BrokenJson:
        raise Declined(400, "broken_json", "The body is not JSON in UTF-8.") from None
    if not isinstance(found, list):
        return [found]
    if len(found) > WEBHOOK_MAX_MESSAGES:
        raise Declined(
            413,
            "too_many_messages",
            f"At most {WEBHOOK_MAX_MESSAGES:,} messages are taken at a time: lower the webhook's "
            "batch size.",
        )
    return found


def _kind_of(message: object) -> str:
    if not isinstance(message, dict):
        return "other"
    return "delete" if message.get("type") == "delete" else kind_of(message)


def _read(message: Any, kind: str, index: int, exactly: Exactly) -> Item | Refused | Skipped:
    def user_id() -> object:
        return exactly.user_id(index)

    if kind == "delete":
        return _deletion(message, user_id_of(message.get("userId"), user_id))
    return told_apart(read_parsed(message, user_id, source=SOURCE, place=index), kind)


def _deletion(message: dict[str, Any], user_id: str | Refusal | Skip) -> Item | Refused | Skipped:
    if isinstance(user_id, Refusal):
        return Refused(user_id)
    if isinstance(user_id, Skip):
        return Skipped(user_id)
    try:
        stamp = message.get("timestamp")
        requested_at = None if stamp is None else read_instant(stamp)
    except UnreadableInstant:
        requested_at = None  # only shown: no reason not to forget somebody
    return Deletion(
        id=f"http:{uuid4().hex}", user_id=user_id, requested_at=requested_at, source=SOURCE
    )


def _wrong_signature() -> Declined:
    return _refused(
        "X-Signature does not fit the body. The webhook's Shared Secret and "
        "PERSONA_SYNC_SHARED_SECRET must be the same, and nothing on the way may change the body."
    )


def _refused(message: str) -> Declined:
    return Declined(
        401, "unauthorized", message, ((b"www-authenticate", b'Bearer realm="persona-sync"'),),
    )  # fmt: skip
