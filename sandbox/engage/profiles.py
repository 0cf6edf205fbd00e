"""Every profile of a sandbox, read page by page over HTTP.

Proxies of the environment are not used: the sandbox is on this machine or next to it.
"""

from typing import Any, TypeAlias
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import orjson

Profiles: TypeAlias = dict[str, dict[str, Any]]

PAGE = 1000
PATIENCE = 30.0
"""Seconds without a byte before a page is given up."""


class SandboxUnreadable(Exception):
    """The profiles could not be read, so nothing can be said about them."""


def read_profiles(url: str, api_key: str | None = None) -> Profiles:
    """All profiles; SandboxUnreadable if a page fails or pages go round in a circle."""
    opener = build_opener(ProxyHandler({}))
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    profiles: Profiles = {}
    seen: set[str] = set()
    after: str | None = None
    while True:
        address = f"{url.rstrip('/')}/sandbox/profiles?limit={PAGE}"
        if after is not None:
            address += f"&after={quote(after, safe='')}"
        try:
            with opener.open(Request(address, headers=headers), timeout=PATIENCE) as reply:
                page = orjson.loads(reply.read())
            profiles.update(page["profiles"])
            after = page["next"]
        except (OSError, ValueError, KeyError, TypeError) as trouble:
            reason = trouble.reason if isinstance(trouble, URLError) else trouble
            raise SandboxUnreadable(f"cannot read profiles from {url}: {reason}") from trouble
        if after is None:
            return profiles
        if after in seen:
            raise SandboxUnreadable(f"{url} gave the page after the same user twice")
        seen.add(after)
