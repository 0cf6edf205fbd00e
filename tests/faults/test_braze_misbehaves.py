"""Story: Braze throttles, fails, hangs and cuts replies, all at once, under load."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.flow.support import Deployment, Part, Traffic, eventually

Start = Callable[..., Part]
TROUBLE: list[tuple[str, dict[str, Any]]] = [
    ("latency", {"seconds": [0.1, 0.3], "times": 10}),
    ("status", {"status": 503, "times": 4}),
    ("reset_after", {"times": 4}),
    ("status", {"status": 429, "headers": {"X-Ratelimit-Retry-After": "0.3"}, "times": 2}),
    ("hang", {"apply": True, "apply_after": 0.6, "seconds": 3, "times": 4}),
    ("cut", {"times": 3}),
    ("html", {"times": 3}),
    ("drip", {"interval": 0.05, "times": 3}),
    ("odd_message", {"times": 2}),
    ("queued", {"times": 3}),
    ("reset_before", {"times": 4}),
    ("hang", {"apply": False, "seconds": 3, "times": 3}),
    ("cut", {"apply": False, "times": 3}),
    ("status", {"status": 401, "times": 2}),
    ("status", {"status": 429, "times": 2}),
]


def live_through(deployment: Deployment, start: Start, rounds: int) -> None:
    """Every trouble in turn, as long as the load lasts; then Braze is well again."""
    start(beat=True)
    for n in range(2):
        start(f"w{n}")
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers") == 2, 20, "two workers")
    with Traffic(deployment):
        for _ in range(rounds):
            deployment.sandbox.no_faults()
            for kind, options in TROUBLE:
                deployment.sandbox.fault(kind, **options)
            eventually(
                lambda: all(
                    fault["hits"] == fault["times"] for fault in deployment.sandbox.faults()
                ),
                40,
                "the end of the trouble",
            )
    ended = time.monotonic()
    eventually(deployment.is_delivered, 20, "idleness")
    report = deployment.sandbox.report()
    print(
        f"idle {time.monotonic() - ended:.1f} s after the trouble; by status "
        f"{report['by_status']}; {report['values_unchanged']} of {report['values']} values twice"
    )
    deployment.assert_right()
    deployment.assert_balanced()
    assert deployment.ledger()["dead"] == 0


def test_trouble_of_every_kind_loses_nothing(deployment: Deployment, start: Start) -> None:
    """All profiles are right in the end, nothing is dead, and no rule of Braze was broken."""
    live_through(deployment, start, rounds=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_trouble_that_goes_on_loses_nothing(deployment: Deployment, start: Start) -> None:
    """The same, six times over."""
    live_through(deployment, start, rounds=6)
