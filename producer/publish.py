"""The way in for Python programs: `publish(messages)`, or a Producer that stays open."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from uuid import uuid4

from producer.doorbell import Doorbell
from producer.envelopes import Addressed, Counts, Parcel, clean_name
from producer.inbox import Appended, Inbox
from producer.messages import Message, Refused, read
from producer.server import connect
from worker.settings import Settings, WrongSettings

MESSAGES_PER_APPEND = 5_000  # bounds memory, whatever the length of the iterable
BATCH_ID_MAX_CHARS = 120  # leaves room for the rest of an envelope's id


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """One refused message: its place in what was given, and why."""

    index: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Published:
    """What became of the messages: each is in exactly one of the three counts."""

    accepted: int
    refused: dict[str, int]
    skipped: dict[str, int]
    refusals: list[RefusedMessage]


@dataclass(slots=True)
class _SoFar:
    counts: Counts = field(default_factory=Counts)
    refusals: list[RefusedMessage] = field(default_factory=list)


class Producer:
    """Turns messages into envelopes, appends them and rings. One per thread; close it after use."""

    def __init__(self, inbox: Inbox, doorbell: Doorbell, *, partitions: int) -> None:
        self.partitions = partitions
        self._inbox = inbox
        self._doorbell = doorbell

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Connects when first used. Raises NothingRunning or WrongSettings."""
        try:
            client = connect(settings.server_url())
        except ValueError:  # its message may hold a part of the password
            raise WrongSettings(
                "PERSONA_SYNC_REDIS_URL is not a URL such as redis://:PASSWORD@HOST:6379/0; "
                "write / # ? @ in a password as %2F %23 %3F %40."
            ) from None
        inbox = Inbox(
            client,
            partitions=settings.partitions,
            high_water=settings.inbox_high_water,
            memory_high_water=settings.memory_high_water,
            append_memory=settings.append_memory,
        )
        doorbell = Doorbell(client, settings.celery_broker_url())
        return cls(inbox, doorbell, partitions=settings.partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._doorbell.close()
        self._inbox.close()

    def publish(
        self,
        messages: Iterable[Message],
        *,
        source: str = "python",
        batch_id: str | None = None,
        acknowledged: bool = False,
    ) -> Published:
        """Accept Segment messages; returning means that they are durable in the inbox.

        `acknowledged`: Braze holds these values already, so they need not be sent.

        Raises a ProducerRefused if the inbox takes nothing: a part of the messages may be in
        it. Call again with the same messages and the same `batch_id`, and nothing is taken
        twice (for as long as PERSONA_SYNC_APPEND_MEMORY). Without a `batch_id` a repeated call
        appends again, which changes no value in Braze.
        """
        if isinstance(messages, str | bytes | Mapping):
            raise TypeError("publish takes a list of messages; put the one into a list")
        name = uuid4().hex if batch_id is None else _checked(batch_id)
        source = clean_name(source, 255)
        so_far = _SoFar()
        for number, chunk in enumerate(_chunks(messages)):
            parcel = Parcel(partitions=self.partitions, source=source, acknowledged=acknowledged)
            self._publish_chunk(
                chunk, parcel, source, f"{name}.{number}" if number else name, so_far
            )
        return Published(
            accepted=so_far.counts.accepted,
            refused=dict(so_far.counts.refused),
            skipped=dict(so_far.counts.skipped),
            refusals=so_far.refusals,
        )

    def append(self, envelopes: Sequence[Addressed]) -> list[Appended]:
        """Append envelopes that are packed already, and ring once for each partition."""
        appended = self._inbox.append(envelopes)
        for partition in sorted({envelope.partition for envelope in envelopes}):
            self._doorbell.ring(partition)
        return appended

    def remembers(self, partition: int, envelope_id: str) -> bool:
        """True if this server was given the envelope, within PERSONA_SYNC_APPEND_MEMORY."""
        return self._inbox.remembers(partition, envelope_id)

    def _publish_chunk(
        self,
        chunk: list[tuple[int, Message]],
        parcel: Parcel,
        source: str,
        name: str,
        so_far: _SoFar,
    ) -> None:
        for index, message in chunk:
            reading = read(message, source=source, place=index)
            parcel.add(reading, index)
            if isinstance(reading, Refused):
                refusal = RefusedMessage(index, str(reading.code), reading.reason)
                so_far.refusals.append(refusal)
        self.append(parcel.packed(name))
        so_far.counts.add(parcel.counts)


def publish(
    messages: Iterable[Message],
    *,
    source: str = "python",
    batch_id: str | None = None,
    acknowledged: bool = False,
) -> Published:
    """Publish with the settings of the environment; see `Producer.publish`."""
    with Producer.from_settings(Settings.load()) as producer:
        return producer.publish(
            messages, source=source, batch_id=batch_id, acknowledged=acknowledged
        )


def _checked(batch_id: str) -> str:
    if not 0 < len(batch_id) <= BATCH_ID_MAX_CHARS or clean_name(batch_id, 200) != batch_id:
        raise ValueError(f"a batch_id is text of 1 to {BATCH_ID_MAX_CHARS} characters")
    return batch_id


def _chunks(messages: Iterable[Message]) -> Iterator[list[tuple[int, Message]]]:
    chunk: list[tuple[int, Message]] = []
    for numbered in enumerate(messages):
        chunk.append(numbered)
        if len(chunk) == MESSAGES_PER_APPEND:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
