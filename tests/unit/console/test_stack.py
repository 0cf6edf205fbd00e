"""What the local system is made of."""

from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from console.stack import local_parts, producer_lives, shown_url
from worker.contract import QUEUE_OF_TASK
from worker.settings import Settings


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.delenv("PERSONA_SYNC_REDIS_URL", raising=False)
    monkeypatch.delenv("PERSONA_SYNC_REDIS_URL_FILE", raising=False)
    monkeypatch.setenv("PERSONA_SYNC_DATA_DIR", str(tmp_path))
    return Settings.load()


class TestParts:
    def test_server_comes_first_and_beat_last(self, embedded: Settings) -> None:
        """Whoever needs another is started after it."""
        names = [part.name for part in local_parts(embedded, workers=2)]
        assert names == ["server", "worker1", "worker2", "beat"]

    def test_a_configured_server_is_not_ours(
        self, embedded: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a Redis URL there is no embedded server."""
        monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", "redis://elsewhere:6379/0")
        assert [part.name for part in local_parts(Settings.load())] == ["worker1", "beat"]

    def test_the_producer_runs_if_it_is_wanted(self, embedded: Settings) -> None:
        """Before the workers, so that what Segment sends meanwhile is kept; its end is not the
        end of the delivery."""
        parts = local_parts(embedded, takes_http=True)
        assert [part.name for part in parts] == ["server", "producer", "worker1", "beat"]
        assert not parts[1].essential

    def test_somebody_else_at_the_port_is_not_our_producer(self, tmp_path: Path) -> None:
        """Whoever answers must be ours; nobody there is no error."""
        handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        (tmp_path / "healthz").write_text("ok")
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as stranger:
            settings = Settings(producer_bind=f"127.0.0.1:{stranger.server_port}")
            thread = Thread(target=stranger.serve_forever, args=(0.02,))
            thread.start()
            try:
                assert not producer_lives(settings)
            finally:
                stranger.shutdown()
                thread.join()
        assert not producer_lives(settings)

    def test_the_whole_stops_within_twenty_seconds(self, embedded: Settings) -> None:
        """The stages end one after the other; together their graces leave a second over."""
        parts = local_parts(embedded, workers=3, takes_http=True)
        graces = {part.stage: part.grace for part in parts}
        assert sum(graces.values(), timedelta()) < timedelta(seconds=20)
        assert [part.stage for part in parts] == sorted(part.stage for part in parts)

    def test_every_queue_has_a_worker(self, embedded: Settings) -> None:
        """A worker consumes all queues that tasks are sent to."""
        worker = next(part for part in local_parts(embedded) if part.name == "worker1")
        queues = worker.command[list(worker.command).index("-Q") + 1].split(",")
        assert sorted(queues) == sorted(set(QUEUE_OF_TASK.values()))

    def test_no_part_is_given_a_secret_on_its_command_line(
        self, embedded: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Everybody on the machine can read command lines."""
        monkeypatch.setenv("PERSONA_SYNC_BRAZE_API_KEY", "hush")
        monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", "redis://:hush@elsewhere:6379/0")
        monkeypatch.setenv("PERSONA_SYNC_WRITE_KEYS", "web:hush")
        parts = local_parts(Settings.load(), takes_http=True)
        assert not any("hush" in word for part in parts for word in part.command)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hush@127.0.0.1:7000/0", "redis://127.0.0.1:7000/0"),
        ("rediss://user:hu@sh@host/1?x=hush", "rediss://host/1"),
        ("redis://host:6379", "redis://host:6379"),
    ],
)
def test_a_url_is_shown_without_its_login(url: str, shown: str) -> None:
    """What is printed leads to the server and opens nothing."""
    assert shown_url(url) == shown
