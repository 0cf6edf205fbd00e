"""Settings and audiences.yaml: what is wrong in them, each thing by its name."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from console.checks.finding import Finding, bad, from_outside, good, unseen
from console.checks.secret_files import readable_by_all
from console.paper import many
from worker.audiences.registry import WrongRegistry, load_registry
from worker.braze.client import UnusableKey
from worker.braze.instances import UnknownInstance, rest_url
from worker.durations import format_duration
from worker.observe.webhook import is_webhook_url
from worker.settings import NothingRunning, Settings, WrongSettings

PREFIX = "PERSONA_SYNC_"
# With one of these wrong, nothing else can be said of the deployment.
_DECISIVE = frozenset({"mode", "data_dir"})
# What cannot be judged while a setting has its default in the place of what was meant.
_DECIDED_BY = {
    "partitions": ("partitions", "inbox", "lanes", "budget", "dead_letters"),
    "inbox_high_water": ("inbox",),
    "memory_high_water": ("server_memory",),
}


@dataclass(frozen=True, slots=True)
class Read:
    """The settings, and the names of those that have their default because they are wrong."""

    settings: Settings
    wrong: frozenset[str] = frozenset()

    def without_guesses(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings; those that rest on a default nobody chose could not be looked at."""
        if not self.wrong:
            return list(findings)
        guessed = {"settings_in_force": "a setting"}
        for name in sorted(self.wrong & _DECIDED_BY.keys()):
            guessed |= dict.fromkeys(_DECIDED_BY[name], f"{PREFIX}{name.upper()}")
        return [
            unseen(it.check, f"{guessed[it.check]} is wrong") if it.check in guessed else it
            for it in findings
        ]


def look_at_settings(
    load: Callable[[], Settings], environment: Mapping[str, str]
) -> tuple[Read | None, list[Finding]]:
    """The settings if anything can be told by them, and everything that is wrong with them."""
    read, lines = _load(load)
    unread = [bad("settings", line, _how_to_set(line)) for line in lines]
    if read is None:
        return None, unread
    found = _look(read.settings, environment)
    return read, unread + [it for it in found if not (unread and it.ok and not it.todo)]


def _load(load: Callable[[], Settings]) -> tuple[Read | None, list[str]]:
    """Read them with defaults for those that are wrong, and a line for each of these."""
    wrong: set[str] = set()
    lines: list[str] = []
    while True:
        try:
            if not wrong:
                return Read(load()), []
            fields = Settings.model_fields
            settings = Settings.load(**{name: fields[name].default for name in wrong})
            return Read(settings, frozenset(wrong)), lines
        except WrongSettings as error:
            told = str(error).splitlines()
            lines += [line for line in told if line not in lines]
            more = {name for line in told if (name := _first_named(line, wrong))}
            if not more or more & _DECISIVE:
                return None, lines
            wrong |= more


def _first_named(line: str, but: set[str]) -> str | None:
    """The setting that a line is about. A rule about two names both: if it is broken still with a
    default for the first, it is about the second, too."""
    named = (name.lower() for name in re.findall(rf"{PREFIX}([A-Z_]+[A-Z])", line))
    return next((name for name in named if name in Settings.model_fields and name not in but), None)


def _look(settings: Settings, environment: Mapping[str, str]) -> list[Finding]:
    wrong = [
        found
        for look in (_endpoint, _api_key, _proxy, _server, _broker, _webhook, _timeouts)
        if (found := look(settings)) is not None
    ]
    strange = [*readable_by_all(settings), *_strange(environment)]
    if wrong or strange:
        return [*wrong, *strange]
    return [good("settings", "each is set as it can be")]


def look_at_audiences(settings: Settings) -> Finding:
    """audiences.yaml: there if it was named, valid, and how much it declares."""
    try:
        file = settings.registry_file()
    except WrongSettings as error:
        return bad("audiences", f"{error.said}; workers do not start without it", error.todo)
    try:
        registry = load_registry(file)
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
    key = settings.api_key()
    if len(key.splitlines()) > 1:
        raise UnusableKey(_MANY_LINES)
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
        if str(error) == _MANY_LINES:
            todo = "Let PERSONA_SYNC_BRAZE_API_KEY hold the key alone, in one line."
        return bad("settings", f"PERSONA_SYNC_BRAZE_API_KEY: {error}", todo)
    except WrongSettings as error:
        if settings.mode == "shadow":
            return None
        if settings.braze_api_key_file:
            return bad("settings", error.said, error.todo)
        return bad("settings", "PERSONA_SYNC_BRAZE_API_KEY is not set", todo)
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
        return bad("settings", error.said, error.todo.replace("Set it", f"Set {name}"))
    return None


def _webhook(settings: Settings) -> Finding | None:
    name = "PERSONA_SYNC_NOTICE_WEBHOOK" + ("_FILE" if settings.notice_webhook_file else "")
    todo = f"Put an https URL into {name} (http on this machine), or unset it."
    try:
        url = settings.notice_webhook_url()
    except WrongSettings as error:
        return bad("settings", error.said, error.todo)
    if url and not is_webhook_url(url):
        return bad("settings", f"{name} holds no URL that can be posted to; no worker starts", todo)
    return None


def _timeouts(settings: Settings) -> Finding | None:
    """A time-out to connect that nobody chose may be the longer one: it says nothing."""
    connect, whole = settings.braze_connect_timeout, settings.braze_request_timeout
    if connect <= whole or "braze_connect_timeout" not in settings.model_fields_set:
        return None
    return good(
        "settings",
        f"PERSONA_SYNC_BRAZE_CONNECT_TIMEOUT is {format_duration(connect)}, and has no effect: a "
        f"whole request has {format_duration(whole)}",
        "Set it to less than PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT, or unset it.",
    )


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


_MANY_LINES = "the Braze API key has more than one line"


def _how_to_set(line: str) -> str:
    """What to do about a line that names a variable, or (a rule about two of them) several."""
    name = line.partition(":")[0].lower().removeprefix(PREFIX.lower())
    field = Settings.model_fields.get(name)
    if field is None:
        return "Change one of the variables named there."
    return f"Set {PREFIX}{name.upper()} to a value that fits. It is: {field.description}"
