"""One request to Braze, sent once, in bounded time; what came back is a `Reply`, whatever it is.

The client never retries, never follows a redirect and never judges. NOT_CONNECTED is said only
if no byte of the request was written; everything after that is ambiguous, also a kept-alive
connection that turns out to be gone. Neither bodies nor keys are logged.
"""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker.braze.adapter import OneAddressAdapter
from worker.braze.connections import set_current, tls_context
from worker.braze.watchdog import Call, Watchdog
from worker.pipeline.reply import Reply, Trouble

TRACK_PATH = "/users/track"  # a slash at its end is answered by 403 (Braze docs: errors)
BODY_MAX = 1_000_000  # bytes of a reply
_PROBE = b'{"attributes":[]}'
_TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout)
_CUT = (RemoteDisconnected, IncompleteRead)  # these are HTTPExceptions, too
_NO_HTTP = (
    HTTPException,
    urllib3.exceptions.InvalidHeader,
    urllib3.exceptions.DecodeError,
    requests.exceptions.InvalidHeader,
)


class UnusableKey(ValueError):
    """The key has characters that no header can carry. The message does not repeat it."""


class BrazeClient:
    """Posts bodies to one instance; safe to share between threads.

    `api_key` is asked before every request, so a rotated key counts at once; what it raises is
    raised by `post`, before anything is sent. `connect` bounds name, connect and TLS handshake
    together (a hanging name server can only be noticed afterwards), `total` everything from the
    start to the last byte, `idle` how long a connection may lie unused and be used again.
    `ca_file` replaces the public certificate authorities. The environment's proxies and
    credentials are never used. `clock` is monotonic seconds, `path` the one that is posted to.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        *,
        connect: timedelta,
        total: timedelta,
        idle: timedelta,
        pool_size: int = 256,
        proxy: str | None = None,
        ca_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        path: str = TRACK_PATH,
    ) -> None:
        if proxy is not None and urlsplit(proxy).scheme not in ("http", "https"):
            raise ValueError("The proxy must be a URL that begins with http:// or https://")
        self._url = base_url.rstrip("/") + path
        self._api_key = api_key
        self._connect = connect.total_seconds()
        self._total = total.total_seconds()
        self._clock = clock
        self._headers = {
            "User-Agent": f"persona-sync/{_version()}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self._watchdog = Watchdog(clock)
        self._adapter = OneAddressAdapter(
            self._url,
            context=tls_context(str(ca_file or DEFAULT_CA_BUNDLE_PATH)),
            pool_size=pool_size,
            proxy=proxy,
            idle=idle.total_seconds(),
            clock=clock,
        )

    def track(self, body: bytes, *, total: timedelta | None = None) -> Reply:
        """POST `body` to /users/track; see `post`."""
        return self.post(body, total=total)

    def post(self, body: bytes, *, total: timedelta | None = None) -> Reply:
        """POST `body` to the client's path, once. `total` may differ for this one request.

        Raises UnusableKey, and what `api_key` raises; never for anything the network does.
        """
        started = self._clock()
        limit = self._total if total is None else total.total_seconds()
        request = self._prepared(body)
        call = self._watchdog.begin(started + limit, started + min(self._connect, limit))
        set_current(call)
        try:
            return self._exchange(request, call, started, max(limit, 0.001))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return self._lost(_trouble(call, error), started)
        except ValueError:
            # urllib3 and http.client raise it bare for some names and some broken replies.
            trouble = Trouble.UNREADABLE if call.sending else Trouble.NOT_CONNECTED
            return self._lost(trouble, started)
        finally:
            call.end()
            set_current(None)

    def probe(self) -> Reply:
        """POST an empty array: changes nothing, and shows whether key and address are good."""
        return self.track(_PROBE)

    def close(self) -> None:
        """Close idle connections and stop the watchdog. Requests under way should be over."""
        self._adapter.close()
        self._watchdog.stop()

    def _prepared(self, body: bytes) -> requests.PreparedRequest:
        """A request made by hand: `Request.prepare` works the same constants out every time."""
        key = self._api_key()
        if not key or not key.isascii() or not key.isprintable():
            raise UnusableKey("The Braze API key is empty, or has characters that no key has")
        request = requests.PreparedRequest()
        request.method = "POST"
        request.url = self._url
        request.headers = CaseInsensitiveDict(self._headers)
        request.headers["Authorization"] = f"Bearer {key}"
        request.headers["Content-Length"] = str(len(body))
        request.body = body
        return request

    def _exchange(
        self, request: requests.PreparedRequest, call: Call, started: float, limit: float
    ) -> Reply:
        timeout = (min(self._connect, limit), limit)
        response = self._adapter.send(request, stream=True, timeout=timeout)
        raw = response.raw
        body = _read(raw)
        if len(body) > BODY_MAX:
            raw.close()
            return self._lost(Trouble.UNREADABLE, started)
        if not call.end():  # a body without a length looks whole when its socket is shut down
            return self._lost(Trouble.TIMEOUT, started)
        return Reply(
            status=response.status_code,
            headers={name.lower(): value for name, value in raw.headers.items()},
            body=body,
            seconds=self._clock() - started,
        )

    def _lost(self, trouble: Trouble, started: float) -> Reply:
        return Reply(trouble=trouble, seconds=self._clock() - started)


def _read(raw: urllib3.BaseHTTPResponse) -> bytes:
    """The body, or its first megabyte and one byte more."""
    body = raw.read(BODY_MAX + 1, decode_content=True)
    while len(body) <= BODY_MAX and (more := raw.read(BODY_MAX + 1, decode_content=True)):
        body += more
    return body


def _trouble(call: Call, error: BaseException) -> Trouble:
    """What an exception means, by how far the call got rather than by its class."""
    if not call.sending:
        return Trouble.NOT_CONNECTED
    causes = list(_causes(error))
    if call.over or any(isinstance(cause, _TIMEOUTS) for cause in causes):
        return Trouble.TIMEOUT
    if any(isinstance(cause, _CUT) for cause in causes):
        return Trouble.RESET
    if any(isinstance(cause, _NO_HTTP) for cause in causes):
        return Trouble.UNREADABLE
    return Trouble.RESET


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those it was made from, which the libraries keep in several places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop()
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [found.__cause__, found.__context__, getattr(found, "reason", None)]
        waiting += found.args


def _version() -> str:
    try:
        return version("persona-sync")
    except PackageNotFoundError:  # run from a checkout
        return "dev"
