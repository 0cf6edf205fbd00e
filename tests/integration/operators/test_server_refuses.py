"""A server that answers and refuses: every command says why, in the words of `check`."""

from collections.abc import Iterator

import pytest

from tests.integration.conftest import RealServer, free_port
from tests.integration.flow.support import Deployment
from tests.integration.operators.conftest import Command
from tests.integration.operators.test_check import old_server

PRIMARY = "Let PERSONA_SYNC_REDIS_URL name the primary server"
NEWER = "Use Redis 7.0 or later, Valkey, or the embedded server (`persona-sync up`)."


@pytest.fixture
def replica(own_server: RealServer) -> RealServer:
    """A server that answers and takes no writes."""
    with own_server.client() as client:
        client.config_set("replica-read-only", "yes")
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
    return own_server


class TestReadOnly:
    @pytest.mark.parametrize(
        "arguments", [("up",), ("pause",), ("resume",), ("send", "u", "vip", "true")]
    )
    def test_who_writes_is_sent_to_the_primary(
        self, replica: RealServer, command: Command, arguments: tuple[str, ...]
    ) -> None:
        """One sentence that names the setting, and exit code 1."""
        done = command(*arguments, redis_url=replica.url)
        assert done.code == 1
        assert PRIMARY in done.err
        assert "not certain" not in done.err

    @pytest.mark.parametrize("command_of_readers", ["trace", "status"])
    def test_who_only_reads_goes_on(
        self,
        own_server: RealServer,
        deployment: Deployment,
        command: Command,
        command_of_readers: str,
    ) -> None:
        """Nothing is written for an answer, so a replica can give it."""
        with own_server.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        arguments = [command_of_readers, *(["u"] if command_of_readers == "trace" else [])]
        done = command(*arguments, "--json", redis_url=own_server.url)
        assert done.err == ""
        assert isinstance(done.json, dict)


class TestTooOld:
    @pytest.fixture
    def place(self) -> Iterator[str]:
        """Where a Redis 6.2 seems to be."""
        with old_server() as place:
            yield place

    @pytest.mark.parametrize(
        "arguments",
        [
            ("up",), ("status",), ("pause",), ("resume",), ("trace", "u"),
            ("dead-letters", "list"), ("seed", "--yes"),
        ],
    )  # fmt: skip
    def test_it_is_refused(
        self, place: str, deployment: Deployment, command: Command, arguments: tuple[str, ...]
    ) -> None:
        """The version that is there, and the one that is needed."""
        done = command(*arguments, redis_url=f"redis://{place}/0")
        assert done.code == 1
        assert "6.2.0" in done.err
        assert NEWER in done.err

    @pytest.mark.parametrize(
        "arguments", [("validate",), ("list",), ("explain", "vip")], ids=" ".join
    )
    def test_the_file_is_read_all_the_same(
        self, place: str, deployment: Deployment, command: Command, arguments: tuple[str, ...]
    ) -> None:
        """What needs no server says what is wrong with it, and goes on with the file."""
        (deployment.folder / "audiences.yaml").write_text("audiences: [{key: vip}]\n")
        done = command("audiences", *arguments, redis_url=f"redis://{place}/0")
        assert (done.code, "vip" in done.out or "1 audience" in done.out) == (0, True)
        assert NEWER in done.err
        assert done.err.endswith("This is the file alone.\n")

    @pytest.mark.parametrize("text", ["audiences: [{key: vip}]\n", "audiences: [{kye: vip}]\n"])
    def test_validate_says_it_in_its_document(
        self, place: str, deployment: Deployment, command: Command, text: str
    ) -> None:
        """A program sees why nothing is said of a deployment, be the file right or not."""
        (deployment.folder / "audiences.yaml").write_text(text)
        report = command("audiences", "validate", "--json", redis_url=f"redis://{place}/0").json
        assert (report["ok"], report["registry"]) == ("key" in text, None)
        assert NEWER in report["server_fault"]
