"""The registry that the workers go by, as it is shown: since when, from where, and what is wrong
with a newer file."""

from collections.abc import Iterator
from typing import Any

from console.instants import iso
from worker.stores.publication import Published


def registry_shown(published: Published) -> dict[str, Any] | None:
    """As a document; None if nothing was ever published."""
    if not published.generation and published.fault is None:
        return None
    fault = published.fault
    return {
        "version": published.version,
        "published_at": iso(published.at_ms),
        "by": published.by,
        "replaced": published.replaced or None,
        "declares": len(published.declared.of),
        "fault": {"text": fault.text, "by": fault.by, "since": iso(fault.at_ms)} if fault else None,
    }


def registry_rows(found: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """For `status`."""
    if found is None:
        return
    yield "registry", f"version {found['version']}, by {found['by']}, {found['published_at']}"
    if found["fault"]:
        yield "", fault_said(found)


def fault_said(found: dict[str, Any]) -> str:
    """What is wrong with a file that is refused, and what holds meanwhile."""
    fault = found["fault"]
    first, *others = fault["text"].splitlines()
    more = f" (and {len(others)} more)" if others else ""
    return (
        f"The file on {fault['by']} is REFUSED since {fault['since']}: {first.rstrip('.')}{more}. "
        f"{still_said(found)}"
    )


def still_said(found: dict[str, Any]) -> str:
    """What holds while a file is refused."""
    return f"The workers still run version {found['version']} of {found['published_at']}."
