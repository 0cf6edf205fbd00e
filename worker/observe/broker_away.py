"""A broker that goes away is one line for each thing that it stopped, not pages of traceback.

Celery writes the whole traceback for each message that it could not acknowledge, each tick that the
beat could not send, and each second in which a broker lets it connect and takes nothing (it is
full, or was made a replica). All are harmless (whatever was not acknowledged comes again, the next
tick is a second away), and of the broker's state the traceback tells nothing. Of anything else it
stays.
"""

import logging

Kinds = tuple[type[BaseException], ...]

# Logger -> (what its line begins with, what is said instead).
_SAID = {
    "celery.worker.request": (
        "Couldn't ack",
        "The broker did not take that a message was worked off; it comes again, which is harmless",
    ),
    "celery.beat": (
        "Message Error",
        "The broker is away or takes nothing: the tick is not sent; it is tried again",
    ),
    "celery.worker.consumer.consumer": (
        "Frequent restarts detected",
        "The broker lets us connect and takes nothing (read-only? full?); it is tried again",
    ),
}
# What a server says that cannot write its file; the client has no class for it.
_DISK_FULL = "MISCONF"


class OneLine(logging.Filter):
    """Shortens records that begin like `begins` and are about an exception of these kinds."""

    def __init__(self, begins: str, said: str, kinds: Kinds, wrappers: Kinds) -> None:
        super().__init__()
        self._begins = begins
        self._said = said
        self._kinds = kinds
        self._wrappers = wrappers

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: no line is lost."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        lost = self._lost(error) if str(record.msg).startswith(self._begins) else None
        if lost is not None:
            record.msg, record.args = "%s (%s)", (self._said, type(lost).__name__)
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True

    def _lost(self, error: BaseException | None) -> BaseException | None:
        if isinstance(error, self._wrappers):
            error = error.__context__
        is_known = isinstance(error, self._kinds) or str(error).startswith(_DISK_FULL)
        return error if is_known else None


def tell_in_one_line(kinds: Kinds, wrappers: Kinds) -> None:
    """From now on lines about exceptions of these kinds, and of no others, are short. A wrapper is
    raised in the place of what went wrong, whatever that was."""
    for name, (begins, said) in _SAID.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, OneLine) for known in logger.filters):
            logger.addFilter(OneLine(begins, said, kinds, wrappers))
