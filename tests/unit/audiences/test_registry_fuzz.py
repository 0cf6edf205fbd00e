"""No text breaks the registry: it is read, or refused with WrongRegistry."""

from contextlib import suppress

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.audiences.registry import Registry, WrongRegistry, read_registry
from worker.audiences.registry_edit import Change, edited
from worker.audiences.registry_reader import AUDIENCE_FIELDS, ROOT_FIELDS, TRAIT_FIELDS

MANY = settings(deadline=None, derandomize=True, max_examples=600)
FEW = settings(deadline=None, derandomize=True, max_examples=300)

WORDS = [
    *ROOT_FIELDS, *AUDIENCE_FIELDS, *TRAIT_FIELDS, "realtime", "batched", "linger", "every", "1h",
    "7h", "personas", "vip", "email", "true", "null", "12", "1.5", "2020-01-01", "~", "''",
    "\"event('x').count() > 1\"", "trait('vip') = 'true'", "event('x').count(", "USERS", "sql",
]  # fmt: skip
MARKS = [
    ": ", ":", "\n", "\n  ", "\n    ", "\n  - ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "<<",
    "? ", "| ", "|\n", ">-\n", "'", '"', "#", "!x ", "!!str ", "%", "@", "---", "...", "\t", "\r",
    "\x85", "\u2028", "\ufeff", "\ud800", "\x00", "é", "👩", "\\x",
]  # fmt: skip
pieces = st.lists(st.sampled_from(WORDS) | st.sampled_from(MARKS), max_size=40).map("".join)
names = st.sampled_from([*WORDS, "a", "b", ""]) | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | names | st.dates()
entries = st.dictionaries(st.sampled_from(TRAIT_FIELDS + AUDIENCE_FIELDS), scalars, max_size=6)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "policy": scalars,
        "lanes": trees,
        "audiences": st.lists(entries | trees, max_size=5) | trees,
        "traits": st.lists(entries | trees, max_size=5) | trees,
    },
)


def read(text: str) -> Registry | None:
    """The registry, which must then be usable; None if it was refused."""
    refused: WrongRegistry | None = None
    try:
        registry = read_registry(text)
    except WrongRegistry as error:
        refused = error
    if refused is not None:
        assert str(refused)
        assert refused.faults
        return None
    assert len(registry.rules()) == len(registry.attributes())
    assert registry.version
    return registry


@MANY
@given(st.text(max_size=200) | pieces)
@example("audiences: [&a {<<: *a}]")
@example("{? {}: 1, ? []}")
@example("0o8: 0b2\n1:60: !!int x")
def test_any_text(text: str) -> None:
    """Letters in any order."""
    read(text)


@MANY
@given(documents)
def test_any_document(document: object) -> None:
    """YAML of the right shape with anything in it."""
    read(yaml.safe_dump(document, allow_unicode=True))


@FEW
@given(
    pieces | documents.map(yaml.safe_dump),
    st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=20)), max_size=3),
)
def test_any_edit(text: str, changes: list[tuple[str, str]]) -> None:
    """Editing whatever there is ends with a text or a refusal."""
    wanted = [Change(key, {"query": query, "cadence": "batched"}) for key, query in changes]
    with suppress(WrongRegistry):
        read(edited(text, wanted))
