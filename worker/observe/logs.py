"""Log lines: one for each fact, static names, ids and counts in fields; never a body or a key."""

import logging
from dataclasses import asdict
from typing import Any

import structlog

from worker.pipeline.facts import Fact

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(level: str, form: str) -> None:
    """Set up structlog: `console` for people, `json` for machines; times in UTC."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        cache_logger_on_first_use=True,
    )


def log_fact(fact: Fact) -> None:
    """A sink: writes the fact, leaving out what is empty."""
    fields = {
        name: value
        for name, value in asdict(fact).items()
        if name not in ("name", "level") and value not in ("", 0)
    }
    structlog.get_logger().log(_LEVELS[fact.level], fact.name, **fields)
