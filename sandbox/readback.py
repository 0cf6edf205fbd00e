"""The endpoints that read profiles back or remove them: export, custom attributes, delete."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from sandbox.fields import PROFILE_FIELDS
from sandbox.profiles import Profiles, key_of
from sandbox.wire import Headers, Reply, Request, json_reply, message

_MOST_IDS: Final = 50
_PAGE: Final = 50
_TOO_MANY: Final = "max number of external_ids and aliases exceeded"


def export_ids(document: dict[str, Any], profiles: Profiles, moment: float) -> Reply:
    """POST /users/export/ids, showing every profile as it was at `moment`."""
    wanted = _people(document)
    if isinstance(wanted, str):
        return message(400, wanted)
    fields = document.get("fields_to_export")
    if not isinstance(fields, list) or not fields or not all(isinstance(f, str) for f in fields):
        return message(400, "'fields_to_export' is required")
    users: list[dict[str, Any]] = []
    unknown: list[Any] = []
    for named, key in wanted:
        seen = profiles.as_of(key, moment)
        if seen is None:
            unknown.append(named)
        else:
            users.append(_exported(named, seen, fields))
    body: dict[str, Any] = {"message": "success", "users": users}
    if unknown:
        body["invalid_user_ids"] = unknown
    return json_reply(201, body)


def delete_users(document: dict[str, Any], profiles: Profiles, at: float) -> Reply:
    """POST /users/delete. Ids that do not exist are counted as well: they were queued."""
    wanted = _people(document)
    if isinstance(wanted, str):
        return message(400, wanted)
    for _, key in wanted:
        profiles.delete(key, at)
    return json_reply(201, {"deleted": len(wanted), "message": "success"})


def list_attributes(request: Request, profiles: Profiles, blocked: frozenset[str]) -> Reply:
    """GET /custom_attributes, 50 a page in the order of their names; `Link` leads to the next."""
    try:
        after = urlsafe_b64decode(request.query().get("cursor", "")).decode()
    except ValueError:
        return message(400, "Invalid cursor")
    types = dict.fromkeys(blocked, "String") | profiles.data_types
    names = sorted(name for name in types if name > after)
    page = names[:_PAGE]
    headers: Headers = ()
    if len(names) > _PAGE:
        cursor = urlsafe_b64encode(page[-1].encode()).decode()
        host = request.headers.get("host", "localhost")
        headers = (("Link", f'<http://{host}{request.path}?cursor={cursor}>; rel="next"'),)
    listed: list[dict[str, Any]] = [
        {
            "name": name,
            "data_type": types[name],
            "status": "Blocklisted" if name in blocked else "Active",
            "array_length": None,
            "description": "",
            "tag_names": [],
        }
        for name in page
    ]
    return json_reply(200, {"message": "success", "attributes": listed}, headers)


def _people(document: dict[str, Any]) -> list[tuple[Any, str]] | str:
    """Who is meant, each as named and as kept; or the text of the refusal."""
    ids = document.get("external_ids", [])
    aliases = document.get("user_aliases", [])
    if not isinstance(ids, list) or not all(isinstance(i, str) and i for i in ids):
        return "'external_ids' must be an array of strings"
    if not isinstance(aliases, list) or not all(isinstance(a, dict) for a in aliases):
        return "'user_aliases' must be an array of objects"
    if len(ids) + len(aliases) > _MOST_IDS:
        return _TOO_MANY
    people: list[tuple[Any, str]] = [(i, i) for i in ids]
    people += [(alias, key_of({"user_alias": alias}) or "") for alias in aliases]
    return people or "'external_ids' or 'user_aliases' is required"


def _exported(named: Any, seen: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    user: dict[str, Any] = {}
    for name in fields:
        if name == "external_id" and isinstance(named, str):
            user[name] = named
        elif name == "user_aliases" and isinstance(named, dict):
            user[name] = [named]
        elif name == "custom_attributes":
            user[name] = {k: v for k, v in seen.items() if k not in PROFILE_FIELDS}
        elif name in PROFILE_FIELDS and name in seen:
            user[name] = seen[name]
    return user
