"""Where Braze answers: an instance's name, or a URL, becomes the base of every request.

The table is Braze's own (Braze docs: api basics). It has no US-09; a URL reaches an instance
that the table does not know.
"""

import ipaddress
from urllib.parse import SplitResult, urlsplit

REST_HOSTS: dict[str, str] = {
    **{f"US-0{number}": f"rest.iad-0{number}.braze.com" for number in range(1, 9)},
    "US-10": "rest.us-10.braze.com",
    "EU-01": "rest.fra-01.braze.eu",
    "EU-02": "rest.fra-02.braze.eu",
    "AU-01": "rest.au-01.braze.com",
    "ID-01": "rest.id-01.braze.com",
    "JP-01": "rest.jp-01.braze.com",
    "KR-01": "rest.kr-01.braze.com",
}


class UnknownInstance(ValueError):
    """The endpoint is neither an instance's name nor a usable URL; the message says what is."""


def rest_url(endpoint: str) -> str:
    """The base URL, without a slash at its end: `us-01` -> `https://rest.iad-01.braze.com`.

    A URL must be https (http only to this machine itself), with no path, credentials, query or
    fragment. Raises UnknownInstance.
    """
    text = endpoint.strip()
    host = REST_HOSTS.get(text.upper())
    if host is not None:
        return f"https://{host}"
    if "://" in text:
        return _checked(text)
    hint = f"Did you mean https://{text} ? " if "." in text and _is_host(text) else ""
    raise UnknownInstance(
        f"{_shown(text)} is not a Braze instance. {hint}Known: {', '.join(REST_HOSTS)}. "
        "For any other instance give its REST URL, such as https://rest.iad-01.braze.com"
    )


def _checked(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise UnknownInstance(f"The Braze URL cannot be read: {error}") from None
    fault = _fault(text, url)
    if fault is not None:
        # The URL itself is not repeated: it may hold credentials.
        raise UnknownInstance(f"The Braze URL {fault}")
    host = url.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{shown}" + (f":{port}" if port is not None else "")


def _fault(text: str, url: SplitResult) -> str | None:
    host = url.hostname or ""
    if url.scheme not in ("http", "https"):
        return "must begin with https://"
    if not host or any(char.isspace() or not char.isprintable() for char in text):
        return "has no usable host name"
    if url.username is not None or url.password is not None:
        return "must not hold credentials; the key is a setting of its own"
    if url.path not in ("", "/") or "?" in text or "#" in text:
        return "must end after the host: no path, query or fragment"
    if host.startswith("sdk.") and host.endswith((".braze.com", ".braze.eu")):
        return (
            f"is the SDK's ({host}), which takes no REST calls; "
            "the REST host of the same instance begins with rest."
        )
    if url.scheme == "http" and not (_is_loopback(host) or _is_neighbour(host)):
        return (
            "must begin with https:// (http would show the key; it is allowed to this machine, "
            "and to a container of the same network)"
        )
    return None


def _is_host(text: str) -> bool:
    """A host as it stands in a URL, with or without a port: nothing of it need be kept back."""
    try:
        url = urlsplit(f"https://{text}")
        return _fault(f"https://{text}", url) is None and url.port != 0
    except ValueError:
        return False


def _is_neighbour(host: str) -> bool:
    """A name without a dot: no host of the public network has one, a sandbox in a container has."""
    return host[:1].isalpha() and "." not in host and ":" not in host


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
