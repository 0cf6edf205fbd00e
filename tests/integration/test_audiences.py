"""`persona-sync audiences list` beside a server: who is in what, and what nobody declared."""

from tests.integration.flow.conftest import deployment, sandbox, session_sandbox
from tests.integration.flow.support import Deployment
from tests.integration.operators.conftest import Command, command

__all__ = ["command", "deployment", "sandbox", "session_sandbox"]


class TestList:
    def test_members_and_strangers(self, deployment: Deployment, command: Command) -> None:
        """Users are counted over all partitions; what arrived undeclared is realtime."""
        worker = deployment.worker()
        for user in ("u1", "u2", "u3"):
            deployment.put(user, nightly=user != "u3", stranger=True)
        worker.step()
        report = command("audiences", "list", "--json").json
        assert report["server"] is True
        members = {row["key"]: row["members"] for row in report["audiences"]}
        assert members == {"nightly": 2, "weekly": 0, "gone_is_null": 0}
        (stranger,) = report["undeclared"]
        assert (stranger["key"], stranger["lane"], stranger["members"]) == (
            "stranger",
            "realtime",
            3,
        )

    def test_text(self, deployment: Deployment, command: Command) -> None:
        """The table has a column for the users, and says what was not declared."""
        worker = deployment.worker()
        deployment.put("u1", stranger=True)
        worker.step()
        lines = command("audiences", "list").out.splitlines()
        assert "members" in lines[0]
        assert lines[-1].startswith("stranger")
        assert "not declared: realtime by default" in lines[-1]

    def test_the_engine_follows_the_query(self, deployment: Deployment, command: Command) -> None:
        """What `explain` calls batched waits for its boundary, without any `cadence`."""
        path = deployment.settings().audiences
        path.write_text(
            "lanes: {batched: {every: 12h}}\naudiences:\n  - key: lapsed\n"
            "    query: NOT event('x').within(30 days).count() >= 1\n"
        )
        worker = deployment.worker()
        deployment.put("u1", lapsed=True, vip=True)
        worker.step()
        assert command("audiences", "explain", "lapsed", "--json").json["lane"] == "batched"
        traced = command("trace", "u1", "--json").json["attributes"]
        lanes = {name: found["lane"] for name, found in traced.items()}
        assert lanes == {"lapsed": "batched", "vip": "realtime"}
