"""`seed` at a Braze that does not answer: who waits is told for what, and how long."""

import signal
import subprocess
import sys

from tests.integration.conftest import free_port
from tests.integration.flow.support import ROOT, Deployment


class TestWaiting:
    def test_it_says_for_what_and_how_long(self, deployment: Deployment) -> None:
        """Before the first try, and after each that failed, beside which of how many it was."""
        worker = deployment.worker()
        deployment.put("u", vip=True)
        worker.accept()
        place = f"127.0.0.1:{free_port()}"
        environment = deployment.environment(braze_endpoint=f"http://{place}")
        with subprocess.Popen(
            [sys.executable, "-m", "console.cli", "seed", "--yes"],
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as seed:
            assert seed.stderr is not None
            said: list[str] = []
            for line in seed.stderr:
                said.append(line)
                if line.startswith("Waiting:"):
                    break
            seed.send_signal(signal.SIGINT)
            seed.stderr.read()
        everything = "".join(said)
        assert "1 of 1 user has values of which nobody knows" in everything
        assert f"Asking {place} whether we may read; an answer takes" in said[-2]
        assert "try 1 of 8, going on in" in said[-1]
        assert seed.returncode == 130
