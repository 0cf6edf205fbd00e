"""Posts one notice to a webhook, in Slack's format. The address is a secret: it is in no reason,
no exception and no log line (which is why this speaks HTTP without a library that logs)."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from urllib.parse import urlsplit

_LONGEST = 2_000  # characters of a text; Slack cuts at 40,000
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def is_webhook_url(url: str) -> bool:
    """True for https, and for http on this machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or port == 0 or not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def body_of(text: str) -> bytes:
    """Slack's JSON. What Slack would read as a link or as a call to everybody is escaped."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    if len(plain) > _LONGEST:
        plain = plain[: _LONGEST - 3] + "..."
    return json.dumps({"text": plain.translate(_ESCAPED)}).encode()


class Webhook:
    """`url` is asked for each time, so that its file can be replaced; '' is none."""

    def __init__(self, url: Callable[[], str], timeout: float = 5.0) -> None:
        self._url = url
        self._timeout = timeout

    def post(self, text: str) -> str:
        """Send one notice; empty if it was taken, else a short reason. Over after `timeout`."""
        url = self._url()
        if not is_webhook_url(url):
            return "wrong_address"
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self._timeout)
        # A socket's timeout bounds each operation; this bounds the whole.
        is_over = threading.Event()
        watchdog = threading.Timer(self._timeout, _cut, [connection, is_over])
        watchdog.daemon = True
        watchdog.start()
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Content-Type": "application/json", "User-Agent": "persona-sync"}
            connection.request("POST", path, body_of(text), headers)
            status = connection.getresponse().status
        except (OSError, HTTPException, ValueError) as error:
            return type(error).__name__
        finally:
            watchdog.cancel()
            connection.close()
        if is_over.is_set():
            # What was cut may look like a whole reply.
            return "timeout"
        return "" if 200 <= status < 300 else f"status_{status}"


def _cut(connection: HTTPConnection, is_over: threading.Event) -> None:
    """Wakes whoever reads from the connection."""
    is_over.set()
    open_socket = connection.sock
    if open_socket is not None:
        with suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)
