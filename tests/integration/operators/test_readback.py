"""Reading back from Braze: what is read, and that every call comes to an end."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from tests.integration.flow.support import KEY, Sandbox, free_port
from worker.braze.client import UnusableKey
from worker.braze.readback import NotRead as Lost
from worker.braze.readback import ReadBack
from worker.pipeline.reply import Trouble

EXPORT = "/users/export/ids"


def made(url: str, **changes: Any) -> ReadBack:
    """A reader with short terms."""
    terms: dict[str, Any] = {
        "connect": timedelta(milliseconds=300),
        "total": timedelta(milliseconds=400),
    }
    key = changes.pop("key", KEY)
    return ReadBack(url, lambda: key, **{**terms, **changes})


@pytest.fixture
def reading(sandbox: Sandbox) -> Iterator[ReadBack]:
    """A reader of the sandbox."""
    reading = made(sandbox.url)
    yield reading
    reading.close()


def hold(sandbox: Sandbox, *objects: dict[str, Any]) -> None:
    """Let Braze hold these profiles."""
    reply = requests.post(
        f"{sandbox.url}/users/track",
        json={"attributes": list(objects)},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    )
    assert reply.status_code == 201


class TestExport:
    def test_profiles_and_unknown_ids(self, sandbox: Sandbox, reading: ReadBack) -> None:
        """Custom attributes by user; who is unknown is said apart."""
        hold(sandbox, {"external_id": "u", "vip": True}, {"external_id": "v", "email": "a@b.de"})
        found = reading.export_ids(["u", "v", "nobody"])
        assert found.attributes == {"u": {"vip": True}, "v": {}}
        assert found.unknown == {"nobody"}

    @pytest.mark.parametrize("count", [0, 51])
    def test_fifty_at_most(self, reading: ReadBack, count: int) -> None:
        """More than Braze takes is never asked for."""
        with pytest.raises(ValueError, match="50"):
            reading.export_ids(["u"] * count)

    def test_no_permission(self, sandbox: Sandbox, reading: ReadBack) -> None:
        """A refusal has its status, and nothing of the body: that may hold the key."""
        sandbox.configure(permissions=["users.track"])
        with pytest.raises(Lost, match=r"^status_403$") as caught:
            reading.export_ids(["u"])
        assert caught.value.status == 403

    def test_limit(self, sandbox: Sandbox, reading: ReadBack) -> None:
        """A 429 tells how long to wait, for the caller to obey."""
        headers = {"X-Ratelimit-Retry-After": "7"}
        sandbox.fault("status", path=EXPORT, status=429, headers=headers)
        with pytest.raises(Lost) as caught:
            reading.export_ids(["u"])
        assert (caught.value.status, caught.value.wait) == (429, 7.0)

    def test_redirects_are_not_followed(self, sandbox: Sandbox, reading: ReadBack) -> None:
        """The key goes nowhere else."""
        headers = {"Location": f"{sandbox.url}/users/track"}
        sandbox.fault("status", path=EXPORT, status=302, headers=headers)
        with pytest.raises(Lost, match="status_302"):
            reading.export_ids(["u"])

    def test_no_json(self, sandbox: Sandbox, reading: ReadBack) -> None:
        """A page instead of a document is no answer."""
        sandbox.fault("html", path=EXPORT, status=200)
        with pytest.raises(Lost, match="unreadable"):
            reading.export_ids(["u"])

    @pytest.mark.parametrize("kind", ["hang", "drip"])
    def test_every_call_ends(self, sandbox: Sandbox, reading: ReadBack, kind: str) -> None:
        """Silence and a byte now and then are both over in about the total."""
        hold(sandbox, {"external_id": "u", "vip": True})
        options = {"seconds": 5} if kind == "hang" else {"interval": 0.1}
        sandbox.fault(kind, path=EXPORT, **options)
        began = time.monotonic()
        with pytest.raises(Lost) as caught:
            reading.export_ids(["u"])
        assert caught.value.trouble is Trouble.TIMEOUT
        assert time.monotonic() - began < 2

    def test_nobody_there(self) -> None:
        """Nothing listens: said so, at once."""
        reading = made(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(Lost) as caught:
            reading.export_ids(["u"])
        assert caught.value.status is None
        reading.close()

    def test_unusable_key(self, sandbox: Sandbox) -> None:
        """A key that no header can carry is not sent, and not shown."""
        reading = made(sandbox.url, key="line\nbreak")
        with pytest.raises(UnusableKey) as caught:
            reading.export_ids(["u"])
        assert "break" not in str(caught.value)
        reading.close()


class TestAttributes:
    def test_page_by_page(self, sandbox: Sandbox, reading: ReadBack) -> None:
        """Fifty a page, until there is no next one; a blocked one shows as such."""
        hold(sandbox, {"external_id": "u", **{f"a{n:03}": True for n in range(70)}})
        sandbox.configure(blocked_attributes=["zzz"])
        first, cursor = reading.custom_attributes()
        second, end = reading.custom_attributes(cursor)
        assert (len(first), end) == (50, None)
        names = [item.name for item in (*first, *second)]
        assert names == sorted({*names}) == [*(f"a{n:03}" for n in range(70)), "zzz"]
        assert (first[0].data_type, second[-1].status) == ("Boolean", "Blocklisted")
