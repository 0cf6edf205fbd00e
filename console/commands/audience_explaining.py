"""`persona-sync audiences explain`: why an audience, or a query, is realtime or batched."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import orjson
import typer

from console import audiences_explained
from console.audiences_explained import Explained
from console.audiences_refused import not_declared, query_refused, registry_refused
from console.deployment import Deployment, read_beside
from console.options import AsJson
from console.paper import for_people
from worker.audiences.cadence import Policy, decide, read_cadence
from worker.audiences.query.errors import QueryError
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.tree import Kind
from worker.audiences.registry import (
    Registry,
    WrongRegistry,
    load_registry,
    read_in_part,
    registry_text,
)
from worker.durations import to_ms
from worker.pipeline.rules import Order
from worker.settings import Settings


def explain_command(
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="A declared key.")] = None,
    query: Annotated[
        str | None, typer.Option("--query", metavar="TEXT", help="A query instead of a key.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--type", help="With --query: of users or of accounts.")
    ] = None,
    is_trait: Annotated[
        bool, typer.Option("--trait", help="The query is a computed trait's.")
    ] = False,
    policy: Annotated[
        Policy | None, typer.Option("--policy", help="Else the policy of the file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say why an audience, or a query, is realtime or batched. Needs no server.

    With one it also says what operators have ordered of the key: that it is disabled, or retired;
    and which other key is sent under its name.
    Exits 2 for a query that is refused, with the place; 1 for a key that is not declared.
    """
    if (key is None) == (query is None):
        raise typer.BadParameter("give a KEY, or a query with --query", param_hint="KEY")
    if query is None and (kind is not None or is_trait):
        raise typer.BadParameter("this belongs to --query", param_hint="--type, --trait")
    if query is not None:
        found = _explain_query(query, kind or Kind.USERS, is_trait, policy)
    else:
        found = _explain_key(str(key), policy)
    if as_json:
        typer.echo(orjson.dumps(audiences_explained.as_json(found)).decode())
    else:
        typer.echo(audiences_explained.as_text(found, for_people().width))


def _explain_key(key: str, policy: Policy | None) -> Explained:
    settings = Settings.load()
    registry = _registry_without_mistakes(settings.registry_file(), key)
    registry = registry.under(policy or registry.policy)
    entry, (beside, _) = registry.entry(key), read_beside(_read(key))
    order, offset = (beside.order, beside.offset) if beside else (None, settings.batched_offset)
    # Before the first start the file alone says it.
    shadowed_by = (beside.shadowed_by if beside else "") or _writer_of(key, registry)
    if entry is None or not entry.is_synced:
        if order is None and not shadowed_by:
            raise not_declared(key, registry, settings.audiences)
        decision = decide(None, None)
        found = Explained.at(
            _now_ms(), key, registry.policy, decision, None, registry.every(None), 0
        )
        return replace(found, order=order, shadowed_by=shadowed_by)
    found = Explained.at(
        _now_ms(),
        entry.key,
        registry.policy,
        registry.decisions[entry.key],
        entry.query,
        registry.every(entry),
        to_ms(offset),
    )
    is_enabled = entry.is_enabled
    return replace(found, order=order, is_enabled=is_enabled, shadowed_by=shadowed_by)


def _writer_of(key: str, registry: Registry) -> str:
    """The key that is declared with that name at Braze, if another one is; '' otherwise."""
    writers = {attribute: one for one, attribute in registry.attributes().items()}
    writer = writers.get(key, "")
    return "" if registry.entry(key) or writer == key else writer


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a deployment knows of a key: an operator's order, the offset of its boundaries, and the
    key that is sent under its name instead ('': none is)."""

    order: Order | None
    offset: timedelta
    shadowed_by: str


def _read(key: str) -> Callable[[Deployment], _Beside]:
    def read(deployment: Deployment) -> _Beside:
        stores = deployment.stores
        rule = stores.rulebook.read(0).rules.rule(key)
        return _Beside(
            stores.publication.orders().get(key), deployment.span("batched_offset"), rule.shadowed
        )

    return read


def _explain_query(text: str, kind: Kind, is_trait: bool, policy: Policy | None) -> Explained:
    registry = _registry_if_right()
    registry = registry.under(policy or registry.policy)
    try:
        query = parse_trait(text, kind) if is_trait else parse_audience(text, kind)
    except QueryError as error:
        raise query_refused(error, kind, is_trait) from None
    decision = decide(read_cadence(query, registry.policy, registry.known), None)
    every, offset = registry.every(None), to_ms(Settings.load().batched_offset)
    return Explained.at(_now_ms(), None, registry.policy, decision, query, every, offset)


def _registry_if_right() -> Registry:
    """The configured registry; a broken one must not stop the mending of its queries."""
    path = Settings.load().audiences
    try:
        return load_registry(path)
    except WrongRegistry:
        print(
            f"{path} is not right (see `persona-sync audiences validate`): references to other "
            "audiences are not followed.",
            file=sys.stderr,
        )
        return Registry()


def _registry_without_mistakes(path: Path, key: str) -> Registry:
    """The registry; mistakes elsewhere in it do not stop the explaining of this key."""
    try:
        return load_registry(path)
    except WrongRegistry as error:
        try:
            registry, doubtful = read_in_part(registry_text(path), str(path))
        except (FileNotFoundError, WrongRegistry):
            raise registry_refused(error) from None
        if key in doubtful or registry.entry(key) is None:
            raise registry_refused(error) from None
        print(
            f"{path} has mistakes in other entries (see `persona-sync audiences validate`): "
            "references to those are not followed, and no worker starts with it.",
            file=sys.stderr,
        )
        return registry


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
