"""What Celery's loggers say of a broker that is away: one line each, and all of anything else."""

import logging
from collections.abc import Iterator

import pytest
from celery.beat import SchedulingError
from celery.exceptions import reraise
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

from worker.observe.broker_away import tell_in_one_line

REQUEST, BEAT = "celery.worker.request", "celery.beat"


@pytest.fixture(autouse=True)
def _short() -> Iterator[None]:
    kept = {name: list(logging.getLogger(name).filters) for name in (REQUEST, BEAT)}
    for name in kept:
        logging.getLogger(name).filters.clear()
    tell_in_one_line((ConnectionLost,), (SchedulingError,))
    yield
    for name, filters in kept.items():
        logging.getLogger(name).filters[:] = filters


def fail_to_acknowledge(error: Exception) -> None:
    """As kombu says it."""
    try:
        raise error
    except Exception as caught:
        text = "Couldn't ack %r, reason:%r"
        logging.getLogger(REQUEST).critical(text, "some-id", caught, exc_info=True)


def fail_to_schedule(error: Exception) -> None:
    """As the beat says it, with its stack in the text."""
    try:
        try:
            raise error
        except Exception as cause:  # noqa: BLE001 - whatever the test gives
            wrapped = SchedulingError(f"Couldn't apply scheduled task tick: {cause}")
            reraise(SchedulingError, wrapped, cause.__traceback__)
    except SchedulingError as caught:
        text = "Message Error: %s\n%s"
        logging.getLogger(BEAT).error(text, caught, ["a stack"], exc_info=True)


@pytest.mark.parametrize("fail", [fail_to_acknowledge, fail_to_schedule])
def test_lost_connection_is_one_line(fail, caplog: pytest.LogCaptureFixture) -> None:
    """It says what it means and of which kind the trouble is; it is no alarm."""
    fail(ConnectionLost("Error 111 connecting to 127.0.0.1:6379"))
    (record,) = caplog.records
    said = caplog.handler.format(record)
    assert "\n" not in said
    assert "broker" in said
    assert "(ConnectionError)" in said
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize("fail", [fail_to_acknowledge, fail_to_schedule])
def test_anything_else_is_told_whole(fail, caplog: pytest.LogCaptureFixture) -> None:
    """A trouble that nobody expected keeps its traceback and its level."""
    fail(ResponseError("WRONGTYPE"))
    (record,) = caplog.records
    assert "Traceback" in caplog.handler.format(record)
    assert record.levelno > logging.WARNING


def test_other_lines_of_the_same_logger_stay(caplog: pytest.LogCaptureFixture) -> None:
    """Only the lines that are known are shortened."""
    try:
        raise ConnectionLost("gone")
    except ConnectionLost:
        logging.getLogger(REQUEST).exception("Something new")
    assert "Something new" in caplog.text
    assert "Traceback" in caplog.text
