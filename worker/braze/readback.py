"""Reads from Braze what it holds: profiles by id, and the list of custom attributes.

For `check` and `seed`, never on the way of the data. Each call is one request, sent
once, in bounded time; redirects are not followed, the environment's proxies and credentials
are never used, and neither bodies nor keys are shown. The limits of these endpoints are their
own (Braze docs: post_users_identifier, get_custom_attributes): a caller paces itself.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import requests
import urllib3

from worker.braze.client import UnusableKey
from worker.pipeline.rate_headers import read_wait
from worker.pipeline.reply import Trouble

EXPORT_PATH = "/users/export/ids"
ATTRIBUTES_PATH = "/custom_attributes"
IDS_MAX = 50  # in one export
BODY_MAX = 32_000_000  # bytes; 50 profiles with every attribute a workspace can have


class NotRead(Exception):
    """No usable answer: the message is a short code such as `status_403`.

    `status` is None if there was no whole reply, `trouble` then says why. `wait` is the seconds
    that Braze asked for.
    """

    def __init__(
        self, code: str, *, status: int | None = None, trouble: Trouble | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.trouble = trouble
        self.wait: float | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """Profiles by external id, each with its custom attributes; and ids Braze does not know.

    An attribute that is not set is absent.
    """

    attributes: Mapping[str, Mapping[str, Any]]
    unknown: frozenset[str]


@dataclass(frozen=True, slots=True)
class ListedAttribute:
    """One custom attribute of the workspace. `status`: Active, Blocklisted, ..."""

    name: str
    data_type: str | None
    status: str | None


class ReadBack:
    """Asks one instance; safe for one thread. `total` bounds a call from its start to its end.

    `api_key` is asked before every request. Close it after use.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        *,
        connect: timedelta,
        total: timedelta,
        proxy: str | None = None,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._connect = connect.total_seconds()
        self._total = total.total_seconds()
        self._clock = clock
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or True
        if proxy is not None:
            self._session.proxies = {"http": proxy, "https": proxy}

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def export_ids(
        self,
        external_ids: Sequence[str],
        fields: Sequence[str] = ("external_id", "custom_attributes"),
    ) -> Exported:
        """The profiles of up to 50 users. Raises NotRead, UnusableKey, and what `api_key` raises.

        `fields` must have external_id.
        """
        if not 0 < len(external_ids) <= IDS_MAX or "external_id" not in fields:
            raise ValueError("an export takes 1 to 50 ids, and the field external_id")
        wanted = {"external_ids": list(external_ids), "fields_to_export": list(fields)}
        document, _ = self._ask("POST", EXPORT_PATH, orjson.dumps(wanted))
        users, unknown = document.get("users"), document.get("invalid_user_ids") or []
        if not isinstance(users, list) or not isinstance(unknown, list):
            raise NotRead("unreadable", status=200)
        return Exported(
            {
                user["external_id"]: _attributes_of(user)
                for user in users
                if isinstance(user, dict) and isinstance(user.get("external_id"), str)
            },
            frozenset(id_ for id_ in unknown if isinstance(id_, str)),
        )

    def custom_attributes(
        self, cursor: str | None = None
    ) -> tuple[list[ListedAttribute], str | None]:
        """One page of up to 50, and the cursor of the next; None: it was the last. Raises NotRead,
        UnusableKey, and what `api_key` raises."""
        params = {"cursor": cursor} if cursor else {}
        document, next_page = self._ask("GET", ATTRIBUTES_PATH, None, params)
        listed = document.get("attributes")
        if not isinstance(listed, list):
            raise NotRead("unreadable", status=200)
        page = [
            ListedAttribute(item["name"], _text(item.get("data_type")), _text(item.get("status")))
            for item in listed
            if isinstance(item, dict) and isinstance(item.get("name"), str)
        ]
        cursors = parse_qs(urlsplit(next_page).query).get("cursor") if next_page else None
        return page, cursors[0] if cursors else None

    def _ask(
        self, method: str, path: str, body: bytes | None, params: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], str | None]:
        """The document of a 2xx, and the URL of the next page if there is one."""
        key = self._api_key()
        if not key or not key.isascii() or not key.isprintable():
            raise UnusableKey("The Braze API key is empty, or has characters that no key has")
        until = self._clock() + self._total
        try:
            with self._session.request(
                method,
                self._base_url + path,
                params=params,
                data=body,
                headers={
                    "Authorization": f"Bearer {key}",
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                },
                timeout=(min(self._connect, self._total), self._total),
                allow_redirects=False,
                stream=True,
            ) as response:
                self._session.cookies.clear()
                return self._read(response, until), response.links.get("next", {}).get("url")
        except (requests.ConnectTimeout, requests.exceptions.SSLError) as error:
            raise _lost(Trouble.NOT_CONNECTED) from error
        except (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _lost(Trouble.TIMEOUT) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _lost(Trouble.RESET) from error

    def _read(self, response: requests.Response, until: float) -> dict[str, Any]:
        body = b""
        # Piece by piece, so that a reply that drips comes to an end.
        while piece := response.raw.read1(65_536, decode_content=True):
            body += piece
            if self._clock() > until:
                raise TimeoutError
            if len(body) > BODY_MAX:
                raise NotRead("too_long", status=response.status_code)
        if not 200 <= response.status_code < 300:
            refused = NotRead(f"status_{response.status_code}", status=response.status_code)
            headers = {name.lower(): value for name, value in response.headers.items()}
            refused.wait = read_wait(headers, time.time(), with_reset=response.status_code == 429)
            raise refused
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise NotRead("unreadable", status=response.status_code)
        return document


def _lost(trouble: Trouble) -> NotRead:
    return NotRead(str(trouble), trouble=trouble)


def _attributes_of(user: Mapping[str, Any]) -> Mapping[str, Any]:
    found = user.get("custom_attributes")
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
