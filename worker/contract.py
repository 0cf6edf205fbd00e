"""What may be put in the inbox, and the names that producers and workers share.

A producer appends **envelopes**: JSON, versioned, all changes of one partition, at most 500.
It imports this module, `worker.settings` and the values beside them (`durations`, `metric`), and
nothing else of the engine. The JSON Schema in `docs/contract.schema.json` is made from these
models.
"""

import zlib
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    model_validator,
)

ENVELOPE_VERSION: Literal[1] = 1
MAX_CHANGES_PER_ENVELOPE = 500

# Limits of a field in Braze (Braze docs: user_alias_object, custom_attributes).
USER_ID_MAX_BYTES = 987
ATTRIBUTE_MAX_BYTES = 255
STRING_VALUE_MAX_CHARS = 255
# Instants are milliseconds since 1970 UTC. Braze turns later years into strings.
INSTANT_MAX_MS = 32_503_680_000_000  # the year 3000

# Profile fields and identifiers of /users/track: an attribute of that name would overwrite
# the profile itself (Braze docs: user_attributes_object).
RESERVED_ATTRIBUTES = frozenset(
    {
        "external_id", "user_alias", "braze_id", "email", "phone",
        "_update_existing_only", "_merge_objects", "push_token_import",
        "country", "current_location", "date_of_first_session", "date_of_last_session", "dob",
        "email_subscribe", "email_open_tracking_disabled", "email_click_tracking_disabled",
        "facebook", "first_name", "gender", "home_city", "image_url", "language", "last_name",
        "marked_email_as_spam_at", "push_subscribe", "push_tokens", "subscription_groups",
        "time_zone", "twitter",
    }
)  # fmt: skip


class Refusal(StrEnum):
    """Why a message was refused at the door: it says something, but not what it must."""

    BROKEN_JSON = "broken_json"
    NOT_AN_OBJECT = "not_an_object"
    LINE_TOO_LONG = "line_too_long"
    MISSING_ATTRIBUTE_KEY = "missing_attribute_key"
    RESERVED_ATTRIBUTE = "reserved_attribute"
    INVALID_ATTRIBUTE_NAME = "invalid_attribute_name"
    ATTRIBUTE_NAME_TOO_LONG = "attribute_name_too_long"
    USER_ID_NOT_STRING = "user_id_not_string"
    USER_ID_TOO_LONG = "user_id_too_long"
    INVALID_USER_ID = "invalid_user_id"
    MEMBERSHIP_NOT_BOOLEAN = "membership_not_boolean"
    VALUE_NOT_SCALAR = "value_not_scalar"
    VALUE_TOO_LONG = "value_too_long"
    UNREADABLE_TIMESTAMP = "unreadable_timestamp"
    # What the HTTP producer refuses besides: Segment's own names for it.
    BAD_REQUEST = "bad_request"
    NO_USER_ANON_ID = "no_user_anon_id"
    ID_NOT_STRING = "id_not_string"
    ID_REQUIRED = "id_required"
    EVENT_NOT_DEFINED = "event_not_defined"
    EVENT_NOT_STRING = "event_not_string"
    TRAITS_NOT_OBJECT = "traits_not_object"
    PROPERTIES_NOT_OBJECT = "properties_not_object"
    # A whole body of a known sender; each counts once, however many messages it held.
    EMPTY_BATCH = "empty_batch"
    TOO_MANY_MESSAGES = "too_many_messages"
    BODY_TOO_LARGE = "body_too_large"
    BROKEN_GZIP = "broken_gzip"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNSUPPORTED_ENCODING = "unsupported_encoding"


class Skip(StrEnum):
    """Why a message was passed over: nothing is wrong with it, and nothing is to be done."""

    NO_USER_ID = "no_user_id"
    NOT_AN_AUDIENCE_MESSAGE = "not_an_audience_message"
    # The same, told apart by kind, as the HTTP producer does it.
    PLAIN_IDENTIFY = "plain_identify"
    PLAIN_TRACK = "plain_track"
    PAGE = "page"
    SCREEN = "screen"
    GROUP = "group"
    ALIAS = "alias"


# One sentence for each code, for people: what was found and what would have been right.
REASONS: dict[str, str] = {
    Refusal.BROKEN_JSON: (
        "This is not JSON in UTF-8; an id or a value with half a character (an unpaired surrogate) "
        "is none either."
    ),
    Refusal.NOT_AN_OBJECT: "A message is a JSON object; this is something else.",
    Refusal.LINE_TOO_LONG: "The message is longer than Segment allows (32 KB); send less in it.",
    Refusal.MISSING_ATTRIBUTE_KEY: "context.personas.computation_key is missing or empty.",
    Refusal.RESERVED_ATTRIBUTE: "The key is the name of a Braze profile field; rename it.",
    Refusal.INVALID_ATTRIBUTE_NAME: (
        "The key is no Braze attribute name: no leading $, no space at its edges, no control "
        "characters."
    ),
    Refusal.ATTRIBUTE_NAME_TOO_LONG: "The key is longer than 255 bytes.",
    Refusal.USER_ID_NOT_STRING: "userId is neither a string nor a number.",
    Refusal.USER_ID_TOO_LONG: "userId is longer than 987 bytes, Braze's limit.",
    Refusal.INVALID_USER_ID: "userId holds nothing but spaces, or a NUL.",
    Refusal.MEMBERSHIP_NOT_BOOLEAN: "A membership must be the JSON value true or false.",
    Refusal.VALUE_NOT_SCALAR: "A computed trait must be a string, a number or a boolean.",
    Refusal.VALUE_TOO_LONG: "The string is longer than 255 characters, Braze's limit.",
    Refusal.UNREADABLE_TIMESTAMP: "A timestamp is not ISO 8601, or lies outside 1970 to 3000.",
    Refusal.BAD_REQUEST: (
        "type is none of identify, track, page, screen, group and alias, or not the path's; or a "
        "body has no array `batch`."
    ),
    Refusal.NO_USER_ANON_ID: "The message has neither userId nor anonymousId.",
    Refusal.ID_NOT_STRING: "userId, anonymousId, groupId or previousId is not a string.",
    Refusal.ID_REQUIRED: "A group call must have a groupId, an alias call a previousId.",
    Refusal.EVENT_NOT_DEFINED: "A track call must name its event.",
    Refusal.EVENT_NOT_STRING: "The event of a track call must be a string.",
    Refusal.TRAITS_NOT_OBJECT: "traits must be a JSON object.",
    Refusal.PROPERTIES_NOT_OBJECT: "properties must be a JSON object.",
    Refusal.EMPTY_BATCH: "A batch has no message.",
    Refusal.TOO_MANY_MESSAGES: "A batch has more messages than Segment allows; send it in parts.",
    Refusal.BODY_TOO_LARGE: "A body is longer than its route allows.",
    Refusal.BROKEN_GZIP: "A body is not a whole gzip.",
    Refusal.UNSUPPORTED_MEDIA_TYPE: "A body is not said to be JSON.",
    Refusal.UNSUPPORTED_ENCODING: "A body has another Content-Encoding than gzip.",
    Skip.NO_USER_ID: "The message has no userId; only identified users are synced.",
    Skip.NOT_AN_AUDIENCE_MESSAGE: "The message speaks of no audience, journey step or trait.",
    Skip.PLAIN_IDENTIFY: "An identify call that Engage did not make: no audience is meant.",
    Skip.PLAIN_TRACK: "A plain event: no audience is meant.",
    Skip.PAGE: "A page call; no audience is meant.",
    Skip.SCREEN: "A screen call; no audience is meant.",
    Skip.GROUP: "A group call: it speaks of an account, and only users are synced.",
    Skip.ALIAS: "An alias call: it joins ids, and says nothing of an audience.",
}


class ChangeClass(StrEnum):
    """The `computation_class` of Segment; `trait` and `computed_trait` mean the same."""

    AUDIENCE = "audience"
    JOURNEY_STEP = "journey_step"
    TRAIT = "trait"
    COMPUTED_TRAIT = "computed_trait"

    @property
    def is_membership(self) -> bool:
        """A membership is a boolean; the other classes carry a scalar."""
        return self in (ChangeClass.AUDIENCE, ChangeClass.JOURNEY_STEP)


Instant = Annotated[int, Field(ge=0, le=INSTANT_MAX_MS, description="ms since 1970 UTC")]
Scalar = StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictStr


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Change(_Model):
    """One statement about one user and one attribute, from one message."""

    user_id: str = Field(min_length=1, max_length=USER_ID_MAX_BYTES)
    attribute: str = Field(
        min_length=1, max_length=ATTRIBUTE_MAX_BYTES, description="the audience key"
    )
    value: Scalar = Field(description="a membership's boolean, or a computed trait's scalar")
    event_at: Instant | None = Field(description="event time, skew-corrected; null: arrival")
    arrived_at: Instant | None = Field(
        default=None, description="Segment's receivedAt; null: when the envelope was appended"
    )
    place: int = Field(
        default=0,
        ge=0,
        lt=2**53,
        description="order among messages that arrived together: line of a file, index in a batch",
    )
    message_id: str = Field(default="", max_length=255)
    source: str = Field(default="", max_length=255)
    change_class: ChangeClass = Field(alias="class")

    @model_validator(mode="after")
    def _fits_braze(self) -> "Change":
        if not isinstance(self.value, bool) and self.change_class.is_membership:
            raise ValueError("a membership is a boolean")
        if isinstance(self.value, str) and len(self.value) > STRING_VALUE_MAX_CHARS:
            raise ValueError("the value is longer than 255 characters")
        if not self.user_id.isascii() and len(self.user_id.encode()) > USER_ID_MAX_BYTES:
            raise ValueError("the user id is longer than 987 bytes")
        if not self.attribute.isascii() and len(self.attribute.encode()) > ATTRIBUTE_MAX_BYTES:
            raise ValueError("the attribute is longer than 255 bytes")
        return self


class _Envelope(_Model):
    version: Literal[1] = ENVELOPE_VERSION
    id: str = Field(min_length=1, max_length=200, description="appending twice is harmless")


class Changes(_Envelope):
    """Up to 500 changes of one partition, appended to the inbox as one entry."""

    kind: Literal["changes"] = "changes"
    acknowledged: bool = Field(
        default=False,
        description="true: Braze holds these values already, as somebody says who knows",
    )
    changes: list[Change] = Field(min_length=1, max_length=MAX_CHANGES_PER_ENVELOPE)


class RefusedSample(_Model):
    """One refused or skipped message, without its body: bounded, for the people who look."""

    code: str = Field(max_length=64)
    user_id: str | None = Field(default=None, max_length=USER_ID_MAX_BYTES)
    where: str = Field(default="", max_length=255, description="line number or batch index")


class Refusals(_Envelope):
    """What was refused or skipped at the door: counted and shown, nothing applied."""

    kind: Literal["refusals"] = "refusals"
    source: str = Field(default="", max_length=255)
    refused: dict[str, int] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)
    samples: list[RefusedSample] = Field(default_factory=list, max_length=20)


class Deletion(_Envelope):
    """Forget one user: everything known of them goes, pending sends stop."""

    kind: Literal["deletion"] = "deletion"
    user_id: str = Field(min_length=1, max_length=USER_ID_MAX_BYTES)
    requested_at: Instant | None = None
    source: str = Field(default="", max_length=255)


Envelope = Annotated[Changes | Refusals | Deletion, Field(discriminator="kind")]
ENVELOPE: TypeAdapter[Changes | Refusals | Deletion] = TypeAdapter(Envelope)


def partition_of(user_id: str, partitions: int) -> int:
    """The partition that holds a user: crc32 of the UTF-8 bytes, modulo their number."""
    return zlib.crc32(user_id.encode()) % partitions if partitions > 1 else 0


# --- Redis keys that both sides touch. `{p}` is the partition's hash tag; 1 the schema version.


def key(partition: int, name: str) -> str:
    """A key of one partition: `ps1:{0}:inbox`."""
    return f"ps1:{{{partition}}}:{name}"


def inbox_key(partition: int) -> str:
    """Stream of envelopes; entry fields: `e` the JSON, `n` the number of changes in it."""
    return key(partition, "inbox")


def append_key(partition: int, envelope_id: str) -> str:
    """String: the entry id that an envelope id was given; lives as long as retries may come."""
    return key(partition, f"append:{envelope_id}")


def ledger_key(partition: int) -> str:
    """Hash of exact counters; producers add to `accepted` with the append, and only to that."""
    return key(partition, "ledger")


def bell_key(partition: int, task: str) -> str:
    """String, set while a doorbell is on its way: one outstanding per lane and partition."""
    return key(partition, f"bell:{task}")


BELL_LIFE_MS = 5_000  # a lost doorbell is rung again after this time at the latest
BROKER_KEY_PREFIX = "ps1:celery:"  # Celery's own keys, apart from ours on a shared server
PARTITIONS_KEY = "ps1:{a}:partitions"  # string: the number stored at the first start
CHECK_KEY = "ps1:{a}:check"  # string, written to see whether the server takes writes; expires
CHECK_LIFE_MS = 1_000

# With it a worker or beat ends that cannot start until a person mends something (sysexits.h's
# EX_CONFIG); to start it again changes nothing.
CANNOT_START_CODE = 78


class TaskName:
    """Celery task names, as Flower shows them. Arguments: `[partition]`, never user data."""

    ACCEPT = "persona_sync.accept"
    FLUSH_REALTIME = "persona_sync.flush_realtime"
    FLUSH_BATCHED = "persona_sync.flush_batched"
    FORWARD_DELETES = "persona_sync.forward_deletes"
    SWEEP = "persona_sync.sweep"
    TICK = "persona_sync.tick"


class QueueName:
    """Celery queues; every worker consumes all of them."""

    REALTIME = "persona_sync.realtime"
    ACCEPT = "persona_sync.accept"
    BATCHED = "persona_sync.batched"
    CONTROL = "persona_sync.control"


# Most urgent first. The tick is short, accept holds few threads: neither keeps realtime waiting.
QUEUES = (QueueName.CONTROL, QueueName.ACCEPT, QueueName.REALTIME, QueueName.BATCHED)
QUEUE_OF_TASK = {
    TaskName.ACCEPT: QueueName.ACCEPT,
    TaskName.FLUSH_REALTIME: QueueName.REALTIME,
    TaskName.FLUSH_BATCHED: QueueName.BATCHED,
    TaskName.FORWARD_DELETES: QueueName.BATCHED,
    TaskName.SWEEP: QueueName.BATCHED,
    TaskName.TICK: QueueName.CONTROL,
}
