"""All checks in their order. Each looks for itself: one that fails does not hide the others."""

import os
import time
from collections.abc import Callable, Iterable
from urllib.parse import unquote, urlsplit

from console.checks.braze import BRAZE_CHECKS, look_at_braze
from console.checks.finding import Finding, all_unseen, cleaned
from console.checks.producer import PRODUCER_CHECKS, look_at_producer
from console.checks.running import RUNNING_CHECKS, look_at_running
from console.checks.server import SERVER_CHECKS, look_at_server
from console.checks.settings import look_at_audiences, look_at_settings
from worker.settings import NothingRunning, Settings, WrongSettings
from worker.stored import make_stores

_HIDDEN = "***"


def check_everything(
    load: Callable[[], Settings] = Settings.load, wall: Callable[[], float] = time.time
) -> list[Finding]:
    """Look at everything that can be looked at. Raises nothing for what it finds.

    Findings never show a secret: those that the settings hold are blotted out last of all, where
    something repeats what is not ours.
    """
    read, findings = look_at_settings(load, os.environ)
    if read is None:
        names = (
            "audiences", *SERVER_CHECKS, *BRAZE_CHECKS, *RUNNING_CHECKS, *PRODUCER_CHECKS,
        )  # fmt: skip
        return [*findings, *all_unseen(names, "the settings cannot be read")]
    settings = read.settings
    findings.append(look_at_audiences(settings))
    client, found = look_at_server(settings, wall)
    findings += found
    findings += look_at_braze(settings, wall)
    if client is None:
        findings += look_at_running(None, settings, "the server does not answer")
    else:
        client.close()
        stores = make_stores(settings)
        with stores.client:
            findings += look_at_running(stores, settings)
    findings += look_at_producer(settings)
    return without_secrets(
        named_as_set(read.without_guesses(findings), settings), secrets_of(settings)
    )


def named_as_set(findings: Iterable[Finding], settings: Settings) -> list[Finding]:
    """The same findings; a secret that comes from a file goes by the variable of that file."""
    named = settings.named_as_set
    return [
        Finding(it.check, it.ok, named(it.detail), named(it.todo) if it.todo else None)
        for it in findings
    ]


def secrets_of(settings: Settings) -> set[str]:
    """Every secret that the settings lead to, as it is and as a URL writes it."""
    found: set[str] = set()
    for read in (settings.api_key, settings.server_url, settings.celery_broker_url):
        try:
            found |= _secrets_in(read())
        except (WrongSettings, NothingRunning):
            continue
    if settings.braze_proxy:
        found |= _secrets_in(settings.braze_proxy)
    return found


def _secrets_in(text: str) -> set[str]:
    if "://" not in text:
        return {text}
    try:
        password = urlsplit(text).password
    except ValueError:
        return {text}
    return {password, unquote(password)} if password else set()


def without_secrets(findings: Iterable[Finding], secrets: Iterable[str]) -> list[Finding]:
    """The same findings as they are shown, every secret blotted out of what came from outside. Our
    own sentences stay as they are: a key may be a word that they use."""
    longest_first = sorted(secrets, key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in longest_first:
            # A shorter one is no secret, and blotting it out would tell more than it hides.
            if len(secret) >= 4:
                text = text.replace(secret, _HIDDEN)
        return text

    return [cleaned(finding, clean) for finding in findings]
