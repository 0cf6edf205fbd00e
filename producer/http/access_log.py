"""Log lines of the HTTP producer: one for each request, ids and counts only.

No body, query, header or key is in a line; a path that is not ours is `other`.
"""

import logging
import sys
from typing import Any

import orjson
import structlog

_PROBES = ("healthz", "readyz", "metrics")
_CONSOLE = structlog.dev.ConsoleRenderer(colors=False)


def configure(level: str, form: str) -> None:
    """Set up structlog for this process: `console` for people, `json` for machines; UTC."""
    is_json = form == "json"
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps) if is_json else _CONSOLE,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=(
            structlog.BytesLoggerFactory(sys.stdout.buffer)
            if is_json
            else structlog.PrintLoggerFactory()
        ),
        cache_logger_on_first_use=True,
    )
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.setLevel(logging.ERROR)
    uvicorn.propagate = False
    uvicorn.handlers = [_OneLine()]


class _OneLine(logging.Handler):
    """What uvicorn has to say, in the form of every other line."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().error(
            "server",
            reason=record.getMessage().strip(),
            **({} if error is None else {"error": type(error).__name__, "where": _where(error)}),
        )


def log_request(
    request: str, method: str, route: str, status: int, seconds: float, notes: dict[str, Any]
) -> None:
    """The access log's line; what is empty is left out. Probes that are fine are for DEBUG."""
    fields = {name: value for name, value in notes.items() if value}
    is_dull = route in _PROBES and status == 200
    structlog.get_logger().log(
        logging.DEBUG if is_dull else logging.INFO,
        "request",
        request=request,
        method=method,
        route=route,
        status=status,
        ms=round(seconds * 1_000, 1),
        **fields,
    )


def log_failure(request: str, route: str, error: Exception) -> None:
    """A bug: its kind and where it happened, without a value."""
    structlog.get_logger().error(
        "request_failed",
        request=request,
        route=route,
        reason=type(error).__name__,
        where=_where(error),
    )


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
