"""The same server, sandbox and deployment as for the engine's integration tests."""

from tests.integration.conftest import client, server, session_server
from tests.integration.flow.conftest import deployment, sandbox, session_sandbox, start, worker

__all__ = [
    "client",
    "deployment",
    "sandbox",
    "server",
    "session_sandbox",
    "session_server",
    "start",
    "worker",
]
