"""The OpenAPI document: whole, made from the models, and the same that the command prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from producer.http.limits import BATCH_MAX_MESSAGES
from producer.http.metrics import ROUTES
from producer.http.openapi import document
from producer.http.replies import taken

ROOT = Path(__file__).parents[4]


def references(value: Any) -> list[str]:
    """Every `$ref` in it."""
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [ref for item in value.values() for ref in references(item)]
    if isinstance(value, list):
        return [ref for item in value for ref in references(item)]
    return []


def test_every_route_is_in_it() -> None:
    """No route is forgotten, none is made up."""
    paths = document()["paths"]
    names = {path.rpartition("/")[2].removesuffix(".json") for path in paths}
    assert names == ({*ROUTES} - {"webhook"}) | {"segment"}


def test_references_lead_somewhere() -> None:
    """Each named schema is there."""
    found = document()
    for reference in references(found):
        *_, name = reference.split("/")
        assert name in found["components"]["schemas"], reference


def test_only_health_asks_for_nothing() -> None:
    """Every other route has a way to say who one is."""
    open_ones = {
        path
        for path, methods in document()["paths"].items()
        for operation in methods.values()
        if not operation["security"]
    }
    assert open_ones == {"/healthz", "/readyz"}


def test_limits_are_those_that_hold() -> None:
    """What the reader is told is what is refused."""
    assert document()["components"]["schemas"]["Batch"]["properties"]["batch"]["maxItems"] == (
        BATCH_MAX_MESSAGES
    )


def test_an_answer_fits_its_schema() -> None:
    """The shape that is written by hand for speed is the model's."""
    found = document()
    schema = {**found["components"]["schemas"]["Taken"], "components": found["components"]}
    reply = taken(1, {"page": 2}, [{"index": 3, "code": "bad_request", "reason": "Because."}])
    jsonschema.validate(json.loads(reply.body), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"success": False}, schema)


def test_the_command_prints_it() -> None:
    """`python -m producer --openapi`, without any setting."""
    done = subprocess.run(
        [sys.executable, "-m", "producer", "--openapi"],
        cwd=ROOT, capture_output=True, text=True, env={}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == document()


def test_it_says_who_may_read_it_and_that_anything_may_be_refused_as_busy() -> None:
    """A write key or the webhook's token opens the document; 503 is in every route's answers."""
    paths = document()["paths"]
    assert paths["/openapi.json"]["get"]["security"] == [{"writeKey": []}, {"token": []}]
    for operations in paths.values():
        for operation in operations.values():
            assert "503" in operation["responses"]
