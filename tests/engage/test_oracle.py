"""The oracle: right, wrong, missing and unexpected profiles, read from a stub over loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import sandbox.engage.generate as generate
from sandbox.engage import oracle
from sandbox.engage.profiles import SandboxUnreadable, read_profiles

SIZES = ["--seed", "11", "--messages", "3000", "--users", "1600"]


class Stub(ThreadingHTTPServer):
    """Serves `profiles` by pages in the order of the ids."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Pages)
        self.profiles: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str | None, str | None]] = []
        self.broken: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Pages(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        after = query.get("after", [None])[0]
        limit = int(query["limit"][0])
        self.server.requests.append((after, self.headers["Authorization"]))
        ids = sorted(id_ for id_ in self.server.profiles if after is None or id_ > after)
        page = {
            "profiles": {id_: self.server.profiles[id_] for id_ in ids[:limit]},
            "next": ids[limit - 1] if len(ids) > limit else None,
        }
        body = self.server.broken or json.dumps(page).encode()
        self.send_response(200 if url.path == "/sandbox/profiles" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A sandbox of which only the profiles can be read."""
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def small() -> generate.Example:
    """A file of more profiles than one page holds."""
    return generate.example(11, 3000, 1600)


@pytest.fixture
def file(small, tmp_path):
    """The same, written."""
    path = tmp_path / "m.ndjson.gz"
    path.write_bytes(generate.pack(small.content))
    return path


def profiles_of(made: generate.Example) -> dict[str, dict[str, Any]]:
    return {id_: dict(values) for id_, values in made.truth.items()}


class TestComparison:
    def test_truth_is_right(self, small):
        """Nothing to complain about, every value counted."""
        report = oracle.compare(small.truth, profiles_of(small))
        assert report.is_right
        assert report.profiles_right == small.counts["profiles"]
        assert report.values_right == small.counts["values"]
        assert report.samples == []

    def test_each_kind_of_wrong(self):
        """A wrong, an absent and a strange value; a profile missing, one too many."""
        meant = {"a": {"vip": True, "n": 1}, "b": {"vip": True}, "c": {"vip": False}}
        found = {"a": {"vip": False, "x": 1}, "c": {"vip": False}, "d": {"vip": True}, "e": {}}
        report = oracle.compare(meant, found)
        assert not report.is_right
        assert (report.profiles_right, report.profiles_wrong) == (1, 1)
        assert (report.missing, report.unexpected) == (1, 2)
        assert (report.values_right, report.values_wrong) == (1, 5)
        assert report.samples == [
            {"user_id": "a", "attribute": "n", "expected": 1, "found": None},
            {"user_id": "a", "attribute": "vip", "expected": True, "found": False},
            {"user_id": "a", "attribute": "x", "expected": None, "found": 1},
            {"user_id": "b", "attribute": "vip", "expected": True, "found": None},
            {"user_id": "d", "attribute": "vip", "expected": None, "found": True},
            {"user_id": "e", "attribute": None, "expected": None, "found": {}},
        ]

    def test_empty_profile_alone_is_wrong(self):
        """A user whose only messages were refused has no profile, not even an empty one."""
        assert not oracle.compare({}, {"ghost": {}}).is_right

    def test_samples_are_bounded(self):
        """Twenty are enough to see what is going on."""
        report = oracle.compare({str(n): {"vip": True} for n in range(50)}, {})
        assert (report.missing, len(report.samples)) == (50, 20)

    @pytest.mark.parametrize(
        ("expected", "found", "agree"),
        [
            (450, 450.0, True),
            (-0.5, -0.5, True),
            (True, True, True),
            ("12", "12", True),
            (True, 1, False),
            (0, False, False),
            ("12", 12, False),
            ("true", True, False),
            (False, None, False),
        ],
    )
    def test_what_counts_as_the_same(self, expected, found, agree):
        """Numbers by their amount, everything else by kind and value."""
        assert oracle.same(expected, found) is agree


class TestPages:
    def test_all_pages_are_read(self, stub, small):
        """More than one page, odd ids as page marks included."""
        stub.profiles = profiles_of(small)
        assert read_profiles(stub.url + "/") == small.truth
        assert stub.requests[0] == (None, None)
        assert len(stub.requests) == 2

    def test_marks_are_escaped(self, stub, monkeypatch):
        """Ids with blanks, signs of addresses and other scripts come back unharmed."""
        monkeypatch.setattr("sandbox.engage.profiles.PAGE", 1)
        stub.profiles = {
            id_: {"vip": True} for id_ in ("a&b=c", "50% off", "a/b#?", "長 x", "tab\t")
        }
        assert read_profiles(stub.url) == stub.profiles

    def test_proxies_are_ignored(self, stub, monkeypatch):
        """A proxy of the environment would not find the sandbox."""
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        stub.profiles = {"a": {"vip": True}}
        assert read_profiles(stub.url) == stub.profiles

    def test_key_is_sent(self, stub):
        """As Braze expects it."""
        read_profiles(stub.url, "k1")
        assert stub.requests == [(None, "Bearer k1")]

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"profiles":{},"next":"a"}'])
    def test_nonsense_is_an_error(self, stub, body):
        """Neither an endless loop nor an empty Braze."""
        stub.broken = body
        with pytest.raises(SandboxUnreadable):
            read_profiles(stub.url)


class TestCommand:
    def test_right_is_0(self, stub, small, file, capsys):
        """The whole way, with the report as JSON."""
        stub.profiles = profiles_of(small)
        arguments = [*SIZES, "--input", str(file), "--braze", stub.url, "--json"]
        assert oracle.main(arguments) == 0
        report = json.loads(capsys.readouterr().out)
        assert report == {
            "profiles_right": small.counts["profiles"],
            "profiles_wrong": 0,
            "missing": 0,
            "unexpected": 0,
            "values_right": small.counts["values"],
            "values_wrong": 0,
            "samples": [],
        }

    def test_wrong_is_1(self, stub, small, file, capsys, monkeypatch):
        """One profile less, and the key is taken from the environment."""
        monkeypatch.setenv("SANDBOX_KEY", "k2")
        stub.profiles = profiles_of(small)
        del stub.profiles["ADA"]
        arguments = [*SIZES, "--input", str(file), "--braze", stub.url]
        assert oracle.main([*arguments, "--api-key-env", "SANDBOX_KEY"]) == 1
        assert '"user_id":"ADA"' in capsys.readouterr().out
        assert {key for _, key in stub.requests} == {"Bearer k2"}

    def test_truth_file_stands_for_the_seed(self, stub, small, file, tmp_path):
        """Whoever has the truth needs no numbers."""
        truth = tmp_path / "truth.json"
        truth.write_bytes(generate.truth_file(small))
        stub.profiles = profiles_of(small)
        given = ["--truth", str(truth), "--input", str(file), "--braze", stub.url]
        assert oracle.main(given) == 0

    def test_unreadable_is_2(self, stub, file, capsys):
        """No verdict without profiles."""
        stub.broken = b"<html>"
        assert oracle.main([*SIZES, "--input", str(file), "--braze", stub.url]) == 2
        assert "cannot read profiles" in capsys.readouterr().err

    def test_foreign_file_is_2(self, stub, tmp_path, capsys):
        """A file of another seed has another truth."""
        path = tmp_path / "other.ndjson"
        path.write_bytes(b"{}\n")
        with pytest.raises(SystemExit) as stopped:
            oracle.main([*SIZES, "--input", str(path), "--braze", stub.url])
        assert stopped.value.code == 2
        assert "no file of this seed" in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [[], ["--input", "x"], ["--braze", "http://x"]])
    def test_half_a_question_is_2(self, arguments, capsys):
        """Both sides are needed."""
        with pytest.raises(SystemExit) as stopped:
            oracle.main(arguments)
        assert stopped.value.code == 2
        assert "--describe" in capsys.readouterr().err


class TestDescription:
    def test_totals_add_up(self, capsys):
        """Each line of the file is in exactly one total, each total is the sum of its parts."""
        assert oracle.main([*SIZES, "--describe", "--json"]) == 0
        counts = json.loads(capsys.readouterr().out)
        assert counts["lines"] == 3000
        ends = (counts[name] for name in ("accepted", "refused", "skipped", "empty"))
        assert sum(ends) == counts["lines"]
        assert counts["changes"] + counts["duplicates"] == counts["accepted"]
        for total, parts in (
            ("accepted", "accepted_by_ingredient"),
            ("refused", "refused_by_reason"),
            ("skipped", "skipped_by_reason"),
        ):
            assert sum(counts[parts].values()) == counts[total]

    def test_table_names_everything(self, capsys):
        """The same for people."""
        assert oracle.main([*SIZES, "--describe"]) == 0
        shown = capsys.readouterr().out
        for name in ("accepted", "duplicates", "broken_json", "no_user_id", "tie_by_line"):
            assert name in shown
