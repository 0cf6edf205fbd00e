"""The HTTP producer: is it set up here, does it answer at its address, does it take messages."""

from http.client import HTTPConnection, HTTPException

import orjson

from console.checks.finding import Finding, bad, from_outside, good
from producer.http.auth import Secrets
from worker.settings import Settings, WrongSettings, split_address

PRODUCER_CHECKS = ("producer",)
_SECONDS = 5.0  # it takes up to 3 s to say that its store does not answer
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def look_at_producer(settings: Settings) -> list[Finding]:
    """One finding; not set up is fine, since messages come in by other ways, too."""
    try:
        secrets = Secrets.read(settings)
    except WrongSettings as error:
        todo = error.todo or "Mend the setting or its file."
        return [bad("producer", from_outside(error.said), todo)]
    ways = ways_in(secrets)
    if not ways:
        return [good("producer", "not set up here: no write key and no shared secret are set")]
    return [_asked(settings.producer_bind, " and ".join(ways))]


def ways_in(secrets: Secrets) -> list[str]:
    """The paths that somebody may send to, and who."""
    return [
        *(["/v1 for Segment's libraries"] if secrets.write_keys else []),
        *(["/webhooks/segment for its webhook"] if secrets.shared_secrets else []),
    ]


def _asked(address: str, ways: str) -> Finding:
    """What `/readyz` says there."""
    host, port = split_address(address) or ("", 0)
    connection = HTTPConnection(_ANYWHERE.get(host, host), port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        status, said = answer.status, orjson.loads(answer.read())
        is_ours = answer.getheader("X-Request-Id") is not None and isinstance(said, dict)
    except (OSError, HTTPException, ValueError) as error:
        return bad(
            "producer",
            f"nothing that speaks for it answers at {address}: {type(error).__name__}",
            "Start it: `persona-sync up`, the service `producer`, or `python -m producer`. If it "
            "runs on another machine, ask for its /readyz there.",
        )
    finally:
        connection.close()
    if not is_ours:
        return bad(
            "producer",
            f"another program answers at {address}",
            "Give the producer an address of its own: PERSONA_SYNC_PRODUCER_BIND.",
        )
    if status == 200:
        return good("producer", f"it takes messages at {address}: {ways}")
    return bad(
        "producer",
        f"it runs at {address} and takes nothing: {from_outside(str(said.get('message')))}",
        "Its log says why, as `nothing_is_taken`; mend that, and it goes on by itself.",
    )
