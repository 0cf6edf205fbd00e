"""What Celery's loggers say of a broker that is away: one line each, and all of anything else."""

import logging
from collections.abc import Callable, Iterator

import pytest
from billiard.exceptions import RestartFreqExceeded
from celery.beat import SchedulingError
from celery.exceptions import reraise
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from worker.celery_app import BROKER_TROUBLE
from worker.observe.broker_away import tell_in_one_line

REQUEST, BEAT = "celery.worker.request", "celery.beat"
CONSUMER = "celery.worker.consumer.consumer"


@pytest.fixture(autouse=True)
def _short() -> Iterator[None]:
    kept = {name: list(logging.getLogger(name).filters) for name in (REQUEST, BEAT, CONSUMER)}
    for name in kept:
        logging.getLogger(name).filters.clear()
    tell_in_one_line(BROKER_TROUBLE, (SchedulingError,))
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


def fail_again_and_again(error: Exception) -> None:
    """As the worker says it each second in which it connects and is refused."""
    try:
        raise error
    except Exception as caught:
        text = "Frequent restarts detected: %r"
        logging.getLogger(CONSUMER).critical(text, caught, exc_info=1)


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (fail_to_acknowledge, ConnectionLost("Error 111 connecting to 127.0.0.1:6379")),
        (fail_to_schedule, ConnectionLost("Error 111 connecting to 127.0.0.1:6379")),
        (fail_to_acknowledge, ReadOnlyError("You can't write against a read only replica.")),
        (fail_to_schedule, ReadOnlyError("You can't write against a read only replica.")),
        (fail_to_schedule, OutOfMemoryError("command not allowed")),
        (fail_to_schedule, ResponseError("MISCONF Errors writing to the AOF file")),
        (fail_again_and_again, RestartFreqExceeded("5 in 1s")),
    ],
)
def test_a_broker_in_trouble_is_one_line(
    fail: Callable[[Exception], None], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what it means and of which kind the trouble is; it is no alarm."""
    fail(error)
    (record,) = caplog.records
    said = caplog.handler.format(record)
    assert "\n" not in said
    assert "broker" in said
    assert f"({type(error).__name__})" in said
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
