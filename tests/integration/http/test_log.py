"""The access log has ids and counts only, and no secret is in any output of a whole run."""

import signal
from typing import Any


def test_one_line_for_each_request(open_door: Any, tools: Any) -> None:
    """Route, source, status, counts and time; the id is the answer's."""
    door = open_door()
    batch = [tools.engage("somebody@example.com"), {"type": "page", "userId": "u"}, 7]
    answer = door.send("/v1/batch?writeKey=hush", {"batch": batch})
    found = tools.until(lambda: [one for one in door.lines if one.get("route") == "batch"])
    (line,) = found
    assert line["request"] == answer.headers["x-request-id"]
    assert (line["source"], line["status"]) == ("web", 200)
    assert (line["accepted"], line["skipped"], line["refused"]) == (1, 1, 1)
    assert line["ms"] > 0
    assert set(line) <= {
        "event", "level", "timestamp", "request", "method", "route", "source", "status",
        "accepted", "skipped", "refused", "ms",
    }  # fmt: skip
    assert "somebody" not in door.log.read_text()


def test_probes_are_not_worth_a_line(open_door: Any, tools: Any) -> None:
    """Health checks come every few seconds, for ever."""
    door = open_door()
    for _ in range(3):
        assert door.get("/healthz").status == door.get("/readyz").status == 200
    door.get("/gone?key=hush")
    tools.until(lambda: [one for one in door.lines if one.get("route") == "other"])
    assert not [one for one in door.lines if one.get("route") in ("healthz", "readyz")]


def test_rule_24_no_secret_is_in_any_output(
    session_server: Any, server: Any, open_door: Any, tools: Any
) -> None:
    """A run with everything that can go wrong: neither log nor answers hold a secret, a value, or
    what a stranger guessed."""
    door = open_door(producer_processes="2", log_level="DEBUG")
    guesses = ("guess-1-of-a-key", "guess-2-in-a-body")
    answers = [
        door.send("/v1/identify", tools.engage("u1", value="private value")),
        door.send("/v1/batch", {"batch": [tools.engage()], "writeKey": tools.key}, None),
        door.send("/v1/batch", {"batch": []}, guesses[0]),
        door.send("/v1/batch", {"batch": [], "writeKey": guesses[1]}, None),
        door.send(f"/v1/batch?writeKey={tools.key}", b"{"),
        door.send(f"/v1/{tools.key}", {}),
        door.webhook(tools.engage(), signed={}),
        door.webhook([tools.engage()], tools.token),
        door.webhook([tools.engage()], guesses[0]),
        door.get("/openapi.json", Authorization=f"Bearer {tools.token}"),
        door.get("/openapi.json", Authorization=f"Bearer {guesses[0]}"),
    ]
    with door.raw() as connection:
        connection.sendall(f"GET /{tools.key} NONSENSE {tools.token}\r\n\r\n".encode())
        while piece := connection.recv(65_536):
            answers.append(type(answers[0])(400, {}, piece))
    session_server.end(signal.SIGKILL)
    try:
        answers.append(door.send("/v1/identify", tools.engage()))
        answers.append(door.get("/readyz"))
    finally:
        session_server.start()
    assert door.stop() == 0
    assert {answer.status for answer in answers} >= {200, 400, 401, 404, 503}
    shown = [door.log.read_text(), *(str((one.headers, one.body)) for one in answers)]
    secrets = (tools.key, tools.shared_secret, tools.token, "test-password", "private value")
    for secret in (*secrets, *guesses):
        assert not [text[:300] for text in shown if secret in text], secret
