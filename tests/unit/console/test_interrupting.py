"""Ctrl-C waits for the end of a step."""

import signal

import pytest

from console.interrupting import between_steps


def press() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def test_it_is_raised_between_two_steps_only() -> None:
    """What is under way comes to its end; then it is over."""
    with between_steps() as stop_if_asked:
        stop_if_asked()
        press()
        with pytest.raises(KeyboardInterrupt):
            stop_if_asked()


def test_a_second_one_is_raised_at_once() -> None:
    """Whoever insists does not wait for a server that hangs."""
    with between_steps():
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_afterwards_it_is_as_before() -> None:
    """One that came when all was done is nobody's; the next one counts again."""
    before = signal.getsignal(signal.SIGINT)
    with between_steps():
        press()
    assert signal.getsignal(signal.SIGINT) is before
