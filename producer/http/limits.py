"""How large things may be. Those of /v1 are Segment's own (Segment docs: http-api); what one
message may have is `is_long` of producer/http/ingest.py, the same on every route."""

BATCH_MAX_BYTES = 500 * 1024
BATCH_MAX_MESSAGES = 2_500
WEBHOOK_MAX_MESSAGES = 4_000  # the most that Segment's webhook lets people choose

# Beside a process's connections, for health checks: busy is not dead.
HEALTH_CONNECTIONS = 16
HEALTH_SECONDS = 1.0

HEADERS_MAX_BYTES = 16 * 1024
HEADERS_MAX_COUNT = 100
# After the answer so much of a body is still read and thrown away: a client that is cut off in
# the middle of sending would never see why it was refused.
DISCARDED_BYTES = 1_000_000


class TooMuchHeld(Exception):
    """The process holds as many bytes of bodies as it may."""


class Room:
    """Bytes of bodies that one process holds. For one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Raises TooMuchHeld if that would be too much; nothing is taken then."""
        if self.held + size > self._limit:
            raise TooMuchHeld
        self.held += size

    def give_back(self, size: int) -> None:
        """What was taken before."""
        self.held -= size
