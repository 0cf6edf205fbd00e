"""The OpenAPI 3.1 document, made from the pydantic models. `python -m producer --openapi`.

The models of requests say what a message may hold; that one is refused all the same (a
membership that is no boolean) is said in the answer, not here. Tests hold the document to what
the server does.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import models_json_schema

from producer.http.ingest import KINDS
from producer.http.limits import BATCH_MAX_MESSAGES, WEBHOOK_MAX_MESSAGES
from producer.http.replies import Failed, Health, Taken

Kind = Literal["identify", "track", "page", "screen", "group", "alias"]
Object = dict[str, JsonValue]
_REF = "#/components/schemas/{model}"


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Message(_Open):
    """A Segment message; its kind is the path's, and a `type` that contradicts it is refused.
    Fields that are not named here are ignored."""

    userId: str | None = None
    anonymousId: str | None = None
    messageId: str | None = None
    event: str | None = Field(None, description="of a track call")
    groupId: str | None = Field(None, description="of a group call")
    previousId: str | None = Field(None, description="of an alias call")
    timestamp: str | None = Field(None, description="ISO 8601")
    sentAt: str | None = Field(None, description="ISO 8601; corrects the sender's clock")
    receivedAt: str | None = Field(None, description="ISO 8601; if Segment received it before")
    context: Object | None = None
    integrations: Object | None = None
    traits: Object | None = None
    properties: Object | None = None
    writeKey: str | None = Field(None, description="if there is no Authorization header")


class TypedMessage(Message):
    """A message that says its kind."""

    type: Kind


class Batch(_Open):
    """Several messages; `context` and `integrations` are merged into each."""

    batch: list[TypedMessage] = Field(min_length=1, max_length=BATCH_MAX_MESSAGES)
    context: Object | None = None
    integrations: Object | None = None
    sentAt: str | None = None
    writeKey: str | None = None


class WebhookMessage(_Open):
    """A message as Segment's webhooks send it; `delete` forgets the user."""

    type: str
    userId: str | None = None


_MODELS = (Message, Batch, WebhookMessage, Taken, Failed, Health)
_KEY: list[dict[str, list[str]]] = [{"writeKey": []}]
_WEBHOOK: list[dict[str, list[str]]] = [{"signature": []}, {"signature": [], "token": []}]
_WHY = {
    "400": "The body is not what it must be, its one message was refused, or a header is doubled.",
    "401": "The key, token or signature is missing or wrong.",
    "405": "Another method is right here.",
    "408": "The body came too slowly.",
    "413": "Too long, or too many messages.",
    "415": "Neither JSON nor a gzip of it.",
    "429": "The inbox or the memory is full; send it again later.",
    "431": "The headers are too many or too long.",
    "500": "A fault of the producer.",
    "503": "The store is away, too much is under way, or the producer stops; send it again later.",
}


def document() -> dict[str, Any]:
    """The whole document, as JSON values."""
    _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "persona-sync, the HTTP producer",
            "version": "1",
            "description": "Segment's HTTP Tracking API, and a receiver of its webhooks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            **{f"/v1/{kind}": _post(f"One {kind} call.", _ref(Message)) for kind in KINDS},
            "/v1/batch": _post("Several messages.", _ref(Batch)),
            "/v1/import": _post("The same as /v1/batch.", _ref(Batch)),
            "/webhooks/segment": _webhook(),
            "/openapi.json": _get(
                "This document.", "200", {"type": "object"}, [*_KEY, {"token": []}], "400", "401"
            ),
            "/healthz": _get("The process lives.", "200", _ref(Health), []),
            "/readyz": _ready(),
        },
        "components": {"schemas": schemas["$defs"], "securitySchemes": _schemes()},
    }


def _schemes() -> dict[str, Any]:
    return {
        "writeKey": {
            "type": "http",
            "scheme": "basic",
            "description": "The write key as user, an empty password.",
        },
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Signature",
            "description": "Hex HMAC-SHA1 with the shared secret over the body; of an array, over "
            "its first element.",
        },
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "PERSONA_SYNC_WEBHOOK_TOKEN; needed for an array at the webhook.",
        },
    }


def _post(summary: str, body: dict[str, Any]) -> dict[str, Any]:
    failures = ("400", "401", "405", "408", "413", "415", "429", "431", "500", "503")
    return {
        "post": {
            "summary": summary,
            # Without the header, `writeKey` in the body says the same.
            "security": [*_KEY, {}],
            "requestBody": {"required": True, "content": _json(body)},
            "responses": {
                "200": {"description": "Accepted is on disk.", "content": _json(_ref(Taken))},
                **_failures(failures),
            },
        }
    }


def _webhook() -> dict[str, Any]:
    one = _ref(WebhookMessage)
    several = {"type": "array", "items": one, "maxItems": WEBHOOK_MAX_MESSAGES}
    found = _post("What a Segment webhook sends.", {"anyOf": [one, several]})
    found["post"]["security"] = _WEBHOOK
    return found


def _get(
    summary: str, status: str, body: dict[str, Any], security: list[Any], *failures: str
) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "security": security,
            "responses": {
                status: {"description": summary, "content": _json(body)},
                **_failures((*failures, "405", "431", "500", "503")),
            },
        }
    }


def _ready() -> dict[str, Any]:
    found = _get("Messages are taken.", "200", _ref(Health), [])
    content = _json({"anyOf": [_ref(Health), _ref(Failed)]})
    found["get"]["responses"]["503"] = {"description": _WHY["503"], "content": content}
    return found


def _failures(statuses: tuple[str, ...]) -> dict[str, Any]:
    return {
        status: {"description": _WHY[status], "content": _json(_ref(Failed))} for status in statuses
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
