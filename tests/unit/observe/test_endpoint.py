"""The door for Prometheus: what it answers, and what it does about a port that is taken."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from worker.observe.endpoint import Endpoint, MetricsNotServed, MetricsServed
from worker.pipeline.facts import Fact

Make = Callable[..., Endpoint]


class Record(list[Fact]):
    """Keeps facts; `came` is set with each."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def __call__(self, fact: Fact) -> None:
        self.append(fact)
        self.came.set()


@pytest.fixture
def record() -> Record:
    """The facts so far."""
    return Record()


@pytest.fixture
def make(record: Record) -> Iterator[Make]:
    """Makes endpoints with one counter; closes them."""
    made: list[Endpoint] = []

    def new(host: str = "127.0.0.1", port: int = 0, again: float = 60.0) -> Endpoint:
        registry = CollectorRegistry()
        Counter("seen", "What was seen.", registry=registry).inc()
        made.append(Endpoint((host, port), registry, record, again))
        return made[-1]

    yield new
    for endpoint in made:
        endpoint.close()


def get(port: int | None, path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    assert port is not None
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.getheader("Content-Type", ""), reply.read().decode()
    finally:
        connection.close()


def test_serves_both_text_forms(make: Make, record: Record) -> None:
    """Plain text by default, OpenMetrics on request; both parse."""
    endpoint = make()
    endpoint.start()
    status, kind, body = get(endpoint.port)
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "seen" in {family.name for family in read_plain(body)}
    accept = "application/openmetrics-text; version=1.0.0"
    status, kind, body = get(endpoint.port, Accept=accept)
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert "seen" in {family.name for family in read_open(body)}
    assert [type(fact) for fact in record] == [MetricsServed]


def test_any_other_path_is_not_there(make: Make) -> None:
    """Only /metrics answers with metrics; the rest says where they are."""
    endpoint = make()
    endpoint.start()
    for path in ("/", "/metrics/", "/metricsx", "/.env"):
        status, _, body = get(endpoint.port, path)
        assert (status, body) == (404, "The metrics are at /metrics.\n")
    assert get(endpoint.port, "/metrics?name=x")[0] == 200


def test_a_silent_caller_keeps_nobody_waiting(make: Make) -> None:
    """Who connects and says nothing holds a thread of its own; the next is answered."""
    endpoint = make()
    endpoint.start()
    with socket.create_connection(("127.0.0.1", endpoint.port or 0)):
        assert get(endpoint.port)[0] == 200


def test_a_port_in_use_is_a_warning_with_what_to_do(make: Make, record: Record) -> None:
    """A second worker of the machine goes on, and says once what is so."""
    first = make()
    first.start()
    second = make(port=first.port or 0)
    second.start()
    assert second.port is None
    fact = record[-1]
    assert isinstance(fact, MetricsNotServed)
    assert (fact.level, fact.reason) == ("warning", "EADDRINUSE")
    assert fact.address == f"127.0.0.1:{first.port}"
    assert "Another worker" in fact.todo
    assert "PERSONA_SYNC_METRICS_BIND" in fact.todo
    assert get(first.port)[0] == 200


class Stranger(BaseHTTPRequestHandler):
    """A program of somebody else, which answers everything."""

    def do_GET(self) -> None:
        """Nothing, well said."""
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def test_a_port_of_another_program_is_said_to_be(make: Make, record: Record) -> None:
    """Whoever does not answer as a worker is none, and nobody serves the metrics."""
    with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        thread = threading.Thread(target=stranger.serve_forever, args=(0.02,))
        thread.start()
        try:
            make(port=stranger.server_port).start()
        finally:
            stranger.shutdown()
            thread.join()
    (fact,) = record
    assert isinstance(fact, MetricsNotServed)
    assert fact.todo.startswith("Another program has the port")


def test_a_port_of_a_program_that_is_silent_delays_nobody_for_long(
    make: Make, record: Record
) -> None:
    """A worker asks whose port it is, and does not wait for the answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        make(port=silent.getsockname()[1]).start()
        assert time.monotonic() - began < 5
    (fact,) = record
    assert isinstance(fact, MetricsNotServed)
    assert fact.todo.startswith("Another program has the port")


def test_the_next_takes_over_a_port_that_is_free_again(make: Make, record: Record) -> None:
    """When the first worker is gone, the second serves; the warning is not repeated."""
    first = make()
    first.start()
    port = first.port
    second = make(port=port or 0, again=0.01)
    second.start()
    record.came.clear()
    first.close()
    assert record.came.wait(10)
    assert get(port)[0] == 200
    assert [fact.name for fact in record].count("metrics_not_served") == 1


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 70])
def test_an_address_of_somebody_else_is_a_warning(make: Make, record: Record, host: str) -> None:
    """Whatever is wrong with the address, the worker goes on."""
    make(host).start()
    (fact,) = record
    assert isinstance(fact, MetricsNotServed)
    assert "127.0.0.1:9464" in fact.todo


def test_closing_frees_the_port(make: Make, record: Record) -> None:
    """A stopped worker leaves nothing behind; closing twice, or before the start, is harmless."""
    endpoint = make()
    endpoint.close()
    endpoint = make()
    endpoint.start()
    port = endpoint.port
    endpoint.close()
    endpoint.close()
    make(port=port or 0).start()
    assert [fact.name for fact in record] == ["metrics_served", "metrics_served"]
