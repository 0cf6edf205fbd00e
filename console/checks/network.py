"""Why an address cannot be reached: its name, the connection, the proxy or TLS, told apart.

Nothing is said over the connection but a proxy's CONNECT. Environment proxies are not used.
"""

import errno
import socket
import ssl
import threading
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from console.checks.finding import from_outside


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands in the way, and what to do about it."""

    detail: str
    todo: str


class _Blocked(Exception):
    def __init__(self, detail: str, todo: str) -> None:
        super().__init__(detail)
        self.obstacle = Obstacle(detail, todo)


def find_obstacle(url: str, proxy: str | None, seconds: float) -> Obstacle | None:
    """Go the way to `url` step by step, each step within `seconds`; None if it is free."""
    target = urlsplit(url)
    first = urlsplit(proxy) if proxy else target
    whose = "the proxy" if proxy else "Braze"
    try:
        _resolve(first, whose, seconds)
        with _connect(first, whose, seconds) as plain:
            way: socket.socket = plain
            if proxy and first.scheme == "https":
                way = _shake_hands(way, first, whose)
            if proxy and target.scheme == "https":
                _ask_for_tunnel(way, first, target)
            if target.scheme == "https":
                # TLS within TLS needs more than a socket; the inner one is not looked at then.
                if isinstance(way, ssl.SSLSocket):
                    return None
                way = _shake_hands(way, target, "Braze")
            if way is not plain:
                way.close()
    except _Blocked as blocked:
        return blocked.obstacle
    except (OSError, ValueError) as error:
        return Obstacle(
            f"the connection to {_place(first)} broke: {type(error).__name__}",
            "Try again; if it stays, ask who runs the network between here and there.",
        )
    return None


def _place(parts: SplitResult) -> str:
    return f"{parts.hostname}:{_port(parts)}"


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _setting(whose: str) -> str:
    return "PERSONA_SYNC_BRAZE_PROXY" if whose == "the proxy" else "PERSONA_SYNC_BRAZE_ENDPOINT"


def _resolve(parts: SplitResult, whose: str, seconds: float) -> None:
    """A name server that hangs cannot be interrupted, only left alone."""
    problems: list[OSError | UnicodeError] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(parts.hostname, _port(parts), type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            problems.append(error)

    asking = threading.Thread(target=look_up, daemon=True)
    asking.start()
    asking.join(seconds)
    if asking.is_alive():
        raise _Blocked(
            f"DNS: no answer for {parts.hostname} within {seconds:g} s",
            "Check the name servers of this machine or container.",
        )
    if problems:
        raise _Blocked(
            f"DNS: the name {parts.hostname} is not known",
            f"Check {_setting(whose)}, and the name servers of this machine or container.",
        )


def _connect(parts: SplitResult, whose: str, seconds: float) -> socket.socket:
    try:
        found = socket.create_connection((parts.hostname, _port(parts)), timeout=seconds)
    except OSError as error:
        raise _Blocked(
            f"connect: {whose} at {_place(parts)} {refusal(error)}",
            f"Check {_setting(whose)}, and that a firewall lets this machine out to it.",
        ) from None
    return found


def refusal(error: OSError) -> str:
    """How a connection failed, in words: `refuses connections`, `does not answer`, ..."""
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return "does not answer"
    if isinstance(error, socket.gaierror):
        return "has a name that is not known"
    if error.errno == errno.ECONNREFUSED:
        return "refuses connections"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "cannot be reached from this network"
    return f"cannot be connected to ({type(error).__name__})"


def _ask_for_tunnel(way: socket.socket, proxy: SplitResult, target: SplitResult) -> None:
    asked = f"CONNECT {_place(target)} HTTP/1.1\r\nHost: {_place(target)}\r\n"
    if proxy.username:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        asked += f"Proxy-Authorization: Basic {b64encode(login.encode()).decode()}\r\n"
    way.sendall(asked.encode("ascii") + b"\r\n")
    with way.makefile("rb") as answer:
        said = answer.readline(1_000).decode("latin-1").split()
        while answer.readline(10_000) not in (b"\r\n", b"\n", b""):
            pass
    status = said[1] if len(said) > 1 and said[1].isdigit() else "nothing that is HTTP"
    if status == "407":
        raise _Blocked(
            f"proxy: {_place(proxy)} refuses the login",
            "Put user and password into PERSONA_SYNC_BRAZE_PROXY, as http://USER:PASSWORD@HOST.",
        )
    if not status.startswith("2"):
        raise _Blocked(
            f"proxy: {_place(proxy)} opens no way to {_place(target)}, it answers {status}",
            "Ask who runs the proxy to let this machine through to Braze.",
        )


def _shake_hands(way: socket.socket, parts: SplitResult, whose: str) -> socket.socket:
    context = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
    try:
        return context.wrap_socket(way, server_hostname=parts.hostname)
    except ssl.SSLCertVerificationError as error:
        raise _Blocked(
            f"TLS: the certificate of {_place(parts)} is not good: "
            f"{from_outside(error.verify_message)}",
            f"Check {_setting(whose)}; if something between here and there opens TLS, exempt it.",
        ) from None
    except (ssl.SSLError, TimeoutError, ConnectionError) as error:
        raise _Blocked(
            f"TLS: {_place(parts)} does not complete the handshake ({type(error).__name__})",
            f"Check {_setting(whose)}: scheme and port must be those of an https address.",
        ) from None
