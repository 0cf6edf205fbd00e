"""schemathesis asks the running server what the OpenAPI document promises."""

from base64 import b64encode
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from producer.http.openapi import document

SCHEMA = schemathesis.openapi.from_dict(document())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def asked_door(shared_door: Any, tools: Any) -> Any:
    """The running producer; not a fixture of each example, which would be too many."""
    tools.until(lambda: shared_door.get("/readyz").status == 200)
    return shared_door


@SCHEMA.parametrize()
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_it_does_what_it_says(case: Any, asked_door: Any, tools: Any) -> None:
    """Whatever is sent, good or bad: a status, a type and a body that the document has, and
    never a 5xx."""
    login = "Basic " + b64encode(f"{tools.key}:".encode()).decode()
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{asked_door.port}",
        headers={"Authorization": login},
        checks=CHECKS,
    )
