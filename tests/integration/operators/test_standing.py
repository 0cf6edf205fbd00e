"""How audiences and the registry stand: `status`, `audiences list` and `validate`, `check`."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from console.instants import iso
from tests.integration.flow.support import Deployment, Worker
from tests.integration.operators.conftest import Command

FILE = """
lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 12h}}
audiences:
  - {key: lapsed, query: "NOT event('x').within(30 days).count() >= 1"}
  - {key: nightly, cadence: batched, attribute: seg_nightly}
  - {key: vip}
  - {key: gone, on_exit: null}
"""
BROKEN = "audiences:\n  - {kye: vip}\n"


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """A worker of a deployment whose boundaries are hours away."""
    (deployment.folder / "audiences.yaml").write_text(FILE)
    return deployment.worker(batched_offset="3h")


@pytest.fixture
def rewrite(deployment: Deployment, worker: Worker) -> Callable[[str], None]:
    """Has audiences.yaml written, a while ago, and the worker look at it until it is settled."""

    def write(text: str) -> None:
        file = deployment.folder / "audiences.yaml"
        file.write_text(text)
        os.utime(file, (time.time() - 10, time.time() - 10))
        worker.flow.recover()
        worker.flow.recover()

    return write


def would_change(
    command: Command, deployment: Deployment, old: str = "", new: str = ""
) -> dict[str, Any]:
    """What `validate` says of the file as above, with one thing changed."""
    following = deployment.folder / "next.yaml"
    following.write_text(FILE.replace(old, new))
    return dict(command("audiences", "validate", str(following), "--json").json["change"])


def audience(report: dict[str, Any], key: str) -> dict[str, Any]:
    """What the document of `status` says of one audience."""
    (found,) = [one for one in report["audiences"] if one["key"] == key]
    return dict(found)


class TestAudiences:
    def test_up_to_date_or_how_stale(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Members and who is behind, exact; since when, until when; what was sent and saved."""
        for n in range(4):
            deployment.put(f"u{n}", vip=True, nightly=n > 0)
        deployment.drain(worker)
        deployment.put("u0", vip=True)
        deployment.drain(worker)
        report = command("status", "--json").json
        vip, nightly = audience(report, "vip"), audience(report, "nightly")
        assert (vip["state"], vip["said"]) == ("up_to_date", "up to date")
        assert (vip["members"], vip["pending"], vip["sent"], vip["saved"]) == (4, 0, 4, 1)
        assert vip["last_flush_at"].endswith("Z")
        assert (vip["oldest_pending_at"], vip["next_flush_at"]) == (None, None)
        # Nobody waits for it, and it has its next boundary all the same.
        lapsed = audience(report, "lapsed")
        assert (lapsed["pending"], lapsed["next_flush_at"][-11:]) == (0, ":00:00.000Z")
        assert (nightly["state"], nightly["members"], nightly["pending"]) == ("behind", 3, 4)
        assert (nightly["lane"], nightly["every"], nightly["why"]) == ("batched", "12h", "declared")
        assert nightly["sent"] == 0
        assert nightly["last_flush_at"] is None
        now = iso(worker.stores.allowance.now_ms())
        assert nightly["oldest_pending_at"] <= now < nightly["next_flush_at"]
        assert nightly["said"].startswith("4 users behind, the oldest for ")
        assert "; next flush " in nightly["said"]

    def test_the_stalest_come_first(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """`status` shows ten; the rest is counted, and in `audiences list`."""
        deployment.put("u0", **{f"other{n:02}": True for n in range(15)})
        deployment.drain(worker)
        deployment.put("u0", nightly=True)
        worker.accept()
        deployment.put("u0", lapsed=True)
        worker.accept()
        lines = command("status").out.splitlines()
        first = lines.index(next(line for line in lines if line.startswith("audience ")))
        shown = [line.split()[0] for line in lines[first + 1 :]]
        assert shown[:3] == ["nightly", "lapsed", "gone"]
        assert lines[-1] == "and 9 more, 9 of them up to date: `persona-sync audiences list`"
        assert len(command("audiences", "list").out.splitlines()) == 1 + 4 + 15

    def test_the_list_has_every_figure(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """In the table lane, reason, members, sent, saved, last flush, and how it stands."""
        deployment.put("u0", vip=True, nightly=True, stranger=True)
        deployment.drain(worker)
        lines = command("audiences", "list").out.splitlines()
        for name in ("attribute", "why", "members", "sent", "saved", "last flush", "how it stands"):
            assert name in lines[0]
        assert "not done within a time" in lines[1]
        assert "seg_nightly" in lines[2]
        assert "1 user behind, the oldest for" in lines[2]
        rows = command("audiences", "list", "--json").json
        (stranger,) = rows["undeclared"]
        assert (stranger["undeclared"], stranger["sent"], stranger["state"]) == (
            True, 1, "up_to_date",
        )  # fmt: skip

    def test_what_operators_ordered_is_said(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Who, why and since when; how many wait; a retired key says where it stays."""
        deployment.put("u0", vip=True, gone=True)
        deployment.drain(worker)
        command("audiences", "disable", "vip", "--by", "ann", "--why", "wrong query")
        command("audiences", "retire", "gone", "--set", "null", "--by", "bob", "--yes")
        worker.flow.recover()
        deployment.put("u0", vip=False)
        worker.accept()
        report = command("status", "--json").json
        vip, gone = audience(report, "vip"), audience(report, "gone")
        assert (vip["state"], vip["enabled"], vip["disabled"]["by"]) == ("disabled", False, "ann")
        assert vip["said"].startswith("disabled by ann (wrong query); 1 user behind")
        assert (gone["state"], gone["retired"]["value"]) == ("retired", "null")
        (sweep,) = report["sweeps"]
        assert (sweep["work"], sweep["audience"], sweep["by"]) == ("retire", "gone", "bob")
        assert (sweep["done_at"], sweep["users"]) == (None, 0)
        assert "retiring of gone" in command("status").out
        deployment.drain(worker)
        (sweep,) = command("status", "--json").json["sweeps"]
        assert (sweep["share"], sweep["users"], sweep["changed"]) == (1.0, 1, 1)

    def test_who_is_over_the_budget_is_said(self, deployment: Deployment, command: Command) -> None:
        """So many held, and until when."""
        worker = deployment.worker(data_points_per_audience_per_day=1)
        for n in range(3):
            deployment.put(f"u{n}", vip=True)
        deployment.drain(worker)
        vip = audience(command("status", "--json").json, "vip")
        assert (vip["state"], vip["over_budget"], vip["pending"]) == ("over_budget", 2, 2)
        assert "2 held until 20" in vip["said"]

    def test_a_flush_by_hand_makes_it_due(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Ordered and not done yet, it is due since then."""
        deployment.put("u0", nightly=True)
        worker.accept()
        command("flush", "nightly")
        assert "; due since " in audience(command("status", "--json").json, "nightly")["said"]


class TestRegistry:
    def test_what_the_workers_go_by(self, worker: Worker, command: Command) -> None:
        """Version, when, from where; the table says the same."""
        found = command("status", "--json").json["registry"]
        assert found["version"] == worker.stores.publication.version()
        assert (found["declares"], found["fault"]) == (4, None)
        assert found["published_at"].endswith("Z")
        assert f"registry      version {found['version']}, by " in command("status").out

    def test_a_broken_file_is_said_everywhere(
        self, worker: Worker, rewrite: Callable[[str], None], command: Command
    ) -> None:
        """`status`, `list` and `validate` name it, and what still runs; `check` finds it bad."""
        before = worker.stores.publication.version()
        rewrite(BROKEN)
        report = command("status", "--json").json
        assert report["registry"]["version"] == before
        assert "kye" in report["registry"]["fault"]["text"]
        still = f"The workers still run version {before} of "
        assert "REFUSED since" in (said := command("status").out)
        assert still in said
        listed = command("audiences", "list")
        assert (listed.code, still in listed.err, "lapsed" in listed.out) == (0, True, True)
        done = command("audiences", "validate")
        assert (done.code, still in done.err, "audiences.yaml:2" in done.err) == (1, True, True)
        found = command("check", "--json").finding("registry")
        assert (found["ok"], still in found["detail"]) == (False, True)
        rewrite(FILE)
        assert command("check", "--json").finding("registry")["ok"] is True
        assert command("status", "--json").json["registry"]["fault"] is None

    def test_validate_says_what_would_follow(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Lane moves, resyncs and their cost, before anybody puts the file there."""
        for n in range(4):
            deployment.put(f"u{n}", vip=True, nightly=True, gone=n > 0)
        deployment.drain(worker)
        following = deployment.folder / "next.yaml"
        following.write_text(
            FILE.replace("  - {key: vip}\n", "  - {key: vip, cadence: batched}\n  - {key: new}\n")
            .replace("attribute: seg_nightly", "attribute: night")
            .replace("on_exit: null", "on_exit: false")
        )
        change = command("audiences", "validate", str(following), "--json").json["change"]
        assert (change["same"], change["added"], change["removed"]) == (False, ["new"], [])
        assert change["moved"] == [{"audience": "vip", "to": "batched"}]
        works = {one["audience"]: one for one in change["work"]}
        assert (works["gone"]["work"], works["gone"]["users"]) == ("exit_changed", 1)
        assert (works["nightly"]["work"], works["nightly"]["users"]) == ("resync", 4)
        assert works["nightly"]["cost"]["data_points"] == 4
        assert works["nightly"]["left_behind"] is None  # it was never sent under that name
        said = command("audiences", "validate", str(following)).out
        assert "  another lane: vip (batched)\n" in said
        assert "keeps its last values in Braze" not in said
        said = command("audiences", "validate").out
        assert f"The workers go by it: version {worker.stores.publication.version()}." in said

    def test_what_is_left_behind_is_what_was_sent(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Another name leaves the values in Braze that were sent under the one before it."""
        deployment.put("u0", vip=True)
        deployment.drain(worker)
        (told,) = would_change(command, deployment, "{key: vip}", "{key: vip, attribute: v}")[
            "work"
        ]
        assert (told["left_behind"], told["begins_at"]) == ("vip", None)

    def test_enabling_costs(
        self,
        deployment: Deployment,
        worker: Worker,
        rewrite: Callable[[str], None],
        command: Command,
    ) -> None:
        """Without `enabled: false` all who wait are sent: said with what that costs."""
        rewrite(FILE.replace("{key: vip}", "{key: vip, enabled: false}"))
        for n in range(3):
            deployment.put(f"u{n}", vip=True)
        deployment.drain(worker)
        (told,) = would_change(command, deployment)["work"]
        assert (told["work"], told["users"], told["begins_at"]) == ("reschedule", 3, None)
        assert (told["cost"]["data_points"], told["cost"]["requests"]) == (3, 1)
        said = command("audiences", "validate", str(deployment.folder / "next.yaml")).out
        assert "vip: 3 users who wait are sent: 3 data points, 1 request" in said

    def test_another_interval_is_said(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Also if nobody waits; whoever waits goes at a boundary of the new interval."""
        change = would_change(command, deployment, "every: 12h", "every: 1m")
        assert {"audience": "nightly", "every": "1m"} in change["retimed"]
        assert change["work"] == []
        deployment.put("u0", nightly=True)
        worker.accept()
        (told,) = would_change(command, deployment, "every: 12h", "every: 1m")["work"]
        before = audience(command("status", "--json").json, "nightly")["next_flush_at"]
        assert told["begins_at"] is None or told["begins_at"] < before
        said = command("audiences", "validate", str(deployment.folder / "next.yaml")).out
        assert "another interval: lapsed (every 1m), nightly (every 1m)" in said

    def test_who_waits_already_costs_nothing_more(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Another exit value for users who were never sent is no data point more."""
        command("pause")
        for n in range(4):
            deployment.put(f"u{n}", gone=False)
        worker.accept()
        (told,) = would_change(command, deployment, "on_exit: null", "on_exit: false")["work"]
        assert (told["work"], told["users"], told["cost"]["data_points"]) == ("exit_changed", 4, 0)

    def test_what_was_told_is_what_happens(
        self,
        deployment: Deployment,
        worker: Worker,
        rewrite: Callable[[str], None],
        command: Command,
    ) -> None:
        """The users that `validate` counts are those of which the workers say that it begins."""
        for n in range(5):
            deployment.put(f"u{n}", vip=n > 2)
        deployment.drain(worker)
        text = FILE.replace("{key: vip}", "{key: vip, attribute: very}")
        following = deployment.folder / "next.yaml"
        following.write_text(text)
        (told,) = command("audiences", "validate", str(following), "--json").json["change"]["work"]
        rewrite(text)
        (begun,) = worker.facts_named("sweep_begun")
        assert (told["work"], told["audience"], told["users"], told["cost"]["requests"]) == (
            begun.work, begun.audience, begun.users, begun.requests,
        )  # fmt: skip

    def test_a_retired_key_that_is_shadowed_promises_nothing(
        self,
        deployment: Deployment,
        worker: Worker,
        rewrite: Callable[[str], None],
        command: Command,
    ) -> None:
        """No next flush, no last value to be sent: every command names who has its attribute."""
        rewrite(FILE.replace("{key: vip}", "{key: new, attribute: vip}"))
        deployment.put("u0", vip=True)
        worker.accept()
        done = command("audiences", "retire", "vip", "--set", "null", "--yes", "--by", "ann")
        assert "Its last value waits until new has another attribute, or is gone." in done.err
        for _ in range(3):
            worker.step()
        found = audience(command("status", "--json").json, "vip")
        assert (found["state"], found["shadowed_by"], found["pending"]) == ("retired", "new", 1)
        assert found["next_flush_at"] is None
        assert found["said"] == (
            "retired at null by ann; shadowed by new: 1 user not sent the last value"
        )
        done = command("flush", "vip", "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "shadowed")
        assert "The last value of vip is not sent: new is sent under its name." in done.err
        done = command("audiences", "retire", "vip", "--set", "null", "--wait", "--json")
        held = [one["code"] for one in done.json["in_the_way"]]
        assert (done.code, done.json["left"], "shadowed" in held) == (1, 1, True)
        assert "shadowed by new; retired by ann" in command("trace", "u0").out
        told = command("audiences", "explain", "vip", "--json").json
        assert (told["shadowed_by"], told["retired"]["value"]) == ("new", "null")
        assert "; shadowed by new, which is sent" in command("audiences", "explain", "vip").out

    def test_a_retired_key_is_refused(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """A changed file that names it: who retired it, what to do; exit 1."""
        deployment.put("u0", vip=True)
        deployment.drain(worker)
        command("audiences", "retire", "vip", "--set", "false", "--by", "ann", "--yes")
        assert command("audiences", "validate").code == 0
        following = deployment.folder / "next.yaml"
        following.write_text(FILE + "  - {key: new}\n")
        done = command("audiences", "validate", str(following))
        assert (done.code, "vip was retired by ann" in done.err) == (1, True)
        report = json.loads(command("audiences", "validate", str(following), "--json").out)
        assert (report["ok"], len(report["faults"])) == (False, 1)

    def test_a_shell_with_another_file_is_told(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """The list is what the workers go by; that this shell's file differs is said."""
        other = deployment.folder / "other.yaml"
        other.write_text("audiences: [{key: only_here}]\n")
        done = command("audiences", "list", audiences=str(other))
        assert "only_here" not in done.out
        assert "lapsed" in done.out
        assert "says something else than what the workers go by" in done.err
        assert command("audiences", "list").err == ""
