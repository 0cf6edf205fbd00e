"""Settings and audiences.yaml: what is wrong in them, each thing by its name."""

import difflib
from collections.abc import Callable, Mapping

from console.checks.finding import Finding, bad, from_outside, good
from console.paper import many
from worker.audiences.registry import WrongRegistry, load_registry
from worker.braze.client import UnusableKey
from worker.braze.instances import UnknownInstance, rest_url
from worker.settings import NothingRunning, Settings, WrongSettings

PREFIX = "PERSONA_SYNC_"


def look_at_settings(
    load: Callable[[], Settings], environment: Mapping[str, str]
) -> tuple[Settings | None, list[Finding]]:
    """The settings if they can be read at all, and everything that is wrong with them."""
    try:
        settings = load()
    except WrongSettings as error:
        return None, [bad("settings", line, _how_to_set(line)) for line in str(error).splitlines()]
    wrong = [
        found
        for look in (_endpoint, _api_key, _proxy, _server, _broker)
        if (found := look(settings)) is not None
    ]
    strange = _strange(environment)
    if wrong or strange:
        return settings, [*wrong, *strange]
    return settings, [good("settings", "each is set as it can be")]


def look_at_audiences(settings: Settings) -> Finding:
    """audiences.yaml: valid, and how much it declares."""
    try:
        registry = load_registry(settings.registry_file())
    except WrongRegistry as error:
        return bad(
            "audiences",
            "; ".join(error.lines),
            f"Mend {settings.audiences}: workers do not start with it. `persona-sync audiences "
            "validate` shows each place.",
        )
    if not settings.audiences.exists():
        return good(
            "audiences",
            f"{settings.audiences} does not exist: every audience is undeclared, and realtime",
        )
    count = f"{many(len(registry.audiences), 'audience')}, {many(len(registry.traits), 'trait')}"
    return good("audiences", f"{settings.audiences} declares {count}")


def braze_key(settings: Settings) -> str:
    """The key as a header can carry it. Raises WrongSettings or UnusableKey."""
    try:
        key = settings.api_key()
    except UnicodeDecodeError:
        key = ""
    if not key or not key.isascii() or not key.isprintable():
        raise UnusableKey("the Braze API key is empty, or has characters that no key has")
    return key


def _endpoint(settings: Settings) -> Finding | None:
    todo = "Set PERSONA_SYNC_BRAZE_ENDPOINT to your Braze instance, such as US-01, or REST URL."
    if not settings.braze_endpoint:
        if settings.mode == "shadow":
            return None  # nothing is sent
        return bad("settings", "PERSONA_SYNC_BRAZE_ENDPOINT is not set", todo)
    try:
        rest_url(settings.braze_endpoint)
    except UnknownInstance as error:
        # Somebody may have put the key there.
        given = settings.braze_endpoint.strip()
        said = str(error).replace(given, from_outside(given))
        return bad("settings", f"PERSONA_SYNC_BRAZE_ENDPOINT: {said}", todo)
    return None


def _api_key(settings: Settings) -> Finding | None:
    todo = (
        "Set PERSONA_SYNC_BRAZE_API_KEY, or PERSONA_SYNC_BRAZE_API_KEY_FILE to a file that holds "
        "it: a REST API key with the permission users.track."
    )
    try:
        braze_key(settings)
    except UnusableKey as error:
        return bad("settings", f"PERSONA_SYNC_BRAZE_API_KEY: {error}", todo)
    except WrongSettings as error:
        if settings.mode == "shadow":
            return None
        said = "PERSONA_SYNC_BRAZE_API_KEY is not set"
        return bad("settings", str(error) if settings.braze_api_key_file else said, todo)
    return None


def _proxy(settings: Settings) -> Finding | None:
    if settings.braze_proxy and not settings.braze_proxy.startswith(("http://", "https://")):
        return bad(
            "settings",
            "PERSONA_SYNC_BRAZE_PROXY is no URL of a proxy",
            "Set PERSONA_SYNC_BRAZE_PROXY to a URL that begins with http:// or https://.",
        )
    return None


def _server(settings: Settings) -> Finding | None:
    return _url(settings.server_url, "PERSONA_SYNC_REDIS_URL")


def _broker(settings: Settings) -> Finding | None:
    if settings.broker_url is None and settings.broker_url_file is None:
        return None
    return _url(settings.celery_broker_url, "PERSONA_SYNC_BROKER_URL")


def _url(read: Callable[[], str], name: str) -> Finding | None:
    try:
        read()
    except NothingRunning:
        return None  # that is about the server, not about a setting
    except WrongSettings as error:
        return bad("settings", str(error), f"Set {name} to a URL that can be used.")
    return None


def _strange(environment: Mapping[str, str]) -> list[Finding]:
    return [
        good("settings", f"{name} is no setting, and has no effect", todo)
        for name, todo in strange_variables(environment)
    ]


def strange_variables(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Variables that look like ours and are none, so that nobody reads them; what to do."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    found = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            todo = f"Did you mean {close[0]}?" if close else f"Remove {name}."
            found.append((name, todo))
    return found


def _how_to_set(line: str) -> str:
    """What to do about a line that names a variable, or (a rule about two of them) several."""
    name = line.partition(":")[0].lower().removeprefix(PREFIX.lower())
    field = Settings.model_fields.get(name)
    if field is None:
        return "Change one of the variables named there."
    return f"Set {PREFIX}{name.upper()} to a value that fits. It is: {field.description}"
