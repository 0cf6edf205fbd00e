"""Changing audiences.yaml: what was to change has, and nothing else, to the letter."""

import pytest

from worker.audiences.cadence import Lane
from worker.audiences.registry import WrongRegistry, read_registry
from worker.audiences.registry_edit import Change, edited

QUERY = "event('x').count() >= 1"
LINES = "event('x')\n  .count() >= 1"
BATCHED = {"cadence": "batched"}

# before, changes, after
TABLE = {
    "a value is replaced, its remark stays": (
        "audiences:\n  - key: a\n    cadence: realtime   # why\n",
        [Change("a", BATCHED)],
        "audiences:\n  - key: a\n    cadence: batched   # why\n",
    ),
    "a field is added after the one it follows": (
        "audiences:\n- key:  'a'  # first\n\n  attribute: z\n# end\n- key: b\n",
        [Change("a", BATCHED)],
        "audiences:\n- key:  'a'  # first\n  cadence: batched\n\n  attribute: z\n# end\n- key: b\n",
    ),
    "several fields": (
        "audiences:\n  - key: a\n",
        [Change("a", {"cadence": "batched", "query": QUERY})],
        f'audiences:\n  - key: a\n    query: "{QUERY}"\n    cadence: batched\n',
    ),
    "an entry on one line": (
        "audiences:\n  - {key: a, enabled: false}  # x\n",
        [Change("a", BATCHED)],
        "audiences:\n  - {key: a, cadence: batched, enabled: false}  # x\n",
    ),
    "a block of text is replaced": (
        "audiences:\n  - key: a\n    query: |\n      event('y')\n       .count() > 1\n\n"
        "  # about b\n  - key: b\n",
        [Change("a", {"query": QUERY, **BATCHED})],
        f'audiences:\n  - key: a\n    query: "{QUERY}"\n    cadence: batched\n\n'
        "  # about b\n  - key: b\n",
    ),
    "a query of several lines": (
        "audiences:\n  - key: a\n    enabled: true\n",
        [Change("a", {"query": LINES})],
        "audiences:\n  - key: a\n    query: |-\n      event('x')\n        .count() >= 1\n"
        "    enabled: true\n",
    ),
    "an empty value": (
        "audiences:\n  - key: a\n    cadence:\n    enabled: true\n",
        [Change("a", BATCHED)],
        "audiences:\n  - key: a\n    cadence: batched\n    enabled: true\n",
    ),
    "one is added after the last": (
        "audiences:\n  - key: a\n    # inside\n    enabled: true  # on\n"
        "\n# about traits\ntraits: []\n",
        [Change("b", BATCHED, "Bees")],
        "audiences:\n  - key: a\n    # inside\n    enabled: true  # on\n"
        "  - key: b  # Bees\n    cadence: batched\n\n# about traits\ntraits: []\n",
    ),
    "two are added in order": (
        "audiences:\n- key: a",
        [Change("c", {}), Change("b", {"enabled": False})],
        "audiences:\n- key: a\n- key: c\n- key: b\n  enabled: false",
    ),
    "an empty list": (
        "audiences: []  # none yet\ntraits: []\n",
        [Change("b", {})],
        "audiences:  # none yet\n  - key: b\ntraits: []\n",
    ),
    "no list yet": (
        "audiences:\n#  - key: x\ntraits: []\n",
        [Change("b", {})],
        "audiences:\n  - key: b\n#  - key: x\ntraits: []\n",
    ),
    "a list on one line": (
        "audiences: [{key: a}]\n",
        [Change("b", BATCHED)],
        "audiences: [{key: a}, {key: b, cadence: batched}]\n",
    ),
    "no audiences at all": (
        "policy: engage",
        [Change("b", {})],
        "policy: engage\naudiences:\n  - key: b\n",
    ),
    "an empty file": ("", [Change("b", {})], "audiences:\n  - key: b\n"),
    "line ends of Windows": (
        "# é\r\naudiences:\r\n  - key: a\r\n  - key: b\r\n",
        [Change("a", BATCHED)],
        "# é\r\naudiences:\r\n  - key: a\r\n    cadence: batched\r\n  - key: b\r\n",
    ),
    "odd keys are quoted": (
        "audiences:\n  - key: a\n",
        [Change("on", {}), Change("a: b", {}), Change("12", {})],
        'audiences:\n  - key: a\n  - key: "on"\n  - key: "a: b"\n  - key: "12"\n',
    ),
    "a mark at the beginning": (
        "\ufeffaudiences:\n  - key: a # é 用\n    cadence: realtime\n",
        [Change("a", BATCHED)],
        "\ufeffaudiences:\n  - key: a # é 用\n    cadence: batched\n",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_text_afterwards(name: str) -> None:
    """The edit is made where a person would make it."""
    before, changes, after = TABLE[name]
    assert edited(before, changes) == after


@pytest.mark.parametrize("name", TABLE)
def test_the_meaning_afterwards(name: str) -> None:
    """Read again, each changed audience is as it was to be."""
    before, changes, _ = TABLE[name]
    registry = read_registry(edited(before, changes))
    for change in changes:
        entry = registry.entry(change.key)
        assert entry is not None
        assert (entry.declared is Lane.BATCHED) is ("cadence" in change.fields)
        assert (entry.query is not None) is ("query" in change.fields)


@pytest.mark.parametrize(
    "query",
    [
        "trait('a\\\\b') = 'x \"y\"'",
        "trait('x') = 'tab\there'",
        "trait('x') = '\u2028\x85'",
        "trait('👩') = 'é: # 用'",
        "  trait('x') = 1",
        "trait('x') =  \n 1",
        "trait('x') = 1\n",
        "trait('x')\r\n= 1",
        "trait('x') = '" + "long " * 100 + "'",
    ],
)
def test_any_query_survives(query: str) -> None:
    """Quotes, backslashes, line breaks and odd characters come back as they were."""
    registry = read_registry(edited("audiences:\n  - key: a\n", [Change("a", {"query": query})]))
    entry = registry.entry("a")
    assert entry is not None
    assert entry.query is not None
    assert entry.query.text == query


def test_no_change() -> None:
    """Without changes the text is the same."""
    text = "audiences:   [ ]  # x\r\n"
    assert edited(text, []) == text


def test_no_yaml() -> None:
    """What is no YAML is not edited."""
    with pytest.raises(WrongRegistry):
        edited("a: [", [Change("b", {})])
