"""Rings doorbells beside the appends, so that a slow broker holds up no answer."""

import threading
from typing import Protocol

import structlog


class Bell(Protocol):
    """`producer.doorbell.Doorbell`. Used by one thread."""

    def ring(self, partition: int) -> bool:
        """True if a message went out."""

    def close(self) -> None:
        """Give the connection back."""


class Ringer:
    """A thread that rings for each partition once, however often it was asked to meanwhile."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._changed = threading.Condition()
        self._asked: set[int] = set()
        self._is_closing = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._work, name="ringer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, partition: int) -> None:
        """Have it rung for soon. Never blocks."""
        with self._changed:
            self._asked.add(partition)
            self._changed.notify()

    def close(self, seconds: float = 2.0) -> None:
        """Ring for what was asked, and end; a broker that hangs is not waited for longer."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._is_closing)
                asked, self._asked = self._asked, set()
                is_last = self._is_closing
            for partition in sorted(asked):
                self._ring(partition)
            if is_last:
                self._bell.close()
                return

    def _ring(self, partition: int) -> None:
        try:
            self._bell.ring(partition)
        except Exception as error:  # noqa: BLE001 - without this thread nobody is rung for again
            if not self._is_failing:
                structlog.get_logger().error("ringer_failed", reason=type(error).__name__)
            self._is_failing = True
        else:
            self._is_failing = False
