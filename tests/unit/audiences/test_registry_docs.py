"""docs/sync-rules.md says what the code does: every example of it is read, under both policies."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from worker.audiences.cadence import Code, KnownKeys, Lane, Policy, read_cadence
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.tree import Kind, Query
from worker.audiences.registry import read_registry

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "sync-rules.md").read_text()
YAML = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
REGISTRY = read_registry(YAML[0])


class Row(NamedTuple):
    title: str
    query: str
    lanes: tuple[str, ...]
    code: Code


def rows() -> list[Row]:
    """The rows of all tables that show queries, with the title they stand under."""
    found, title = [], ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and cells[1].startswith("`"):
            lanes = tuple(cell.strip("*") for cell in cells[2:4])
            found.append(Row(title, cells[1].strip("`"), lanes, Code(cells[4].strip("`"))))
    return found


ROWS = rows()


def parsed(row: Row) -> Query:
    if row.title == "Computed traits":
        return parse_trait(row.query)
    return parse_audience(row.query, Kind.ACCOUNTS if "accounts" in row.title else Kind.USERS)


@pytest.mark.parametrize("row", ROWS, ids=[row.query for row in ROWS])
@pytest.mark.parametrize("place", [0, 1])
def test_the_lane_is_as_the_page_says(row: Row, place: int) -> None:
    """Lane and reason under `personas` (left) and `engage` (right)."""
    policy = (Policy.PERSONAS, Policy.ENGAGE)[place]
    known: KnownKeys = REGISTRY.under(policy).known
    reading = read_cadence(parsed(row), policy, known)
    assert reading.lane == row.lanes[place]
    if reading.lane is Lane.REALTIME:
        assert row.code in (Code.REALTIME_BY_DEFAULT, Code.EVENT_WITHIN, Code.RELATIVE_DATE)
    else:
        assert row.code in [reason.code for reason in reading.reasons]


def test_bold_words_are_where_the_policies_differ() -> None:
    """Exactly the rows in which the two lanes are not the same."""
    bold = {
        line.split("|")[1].strip(" `") for line in PAGE.splitlines() if "| **realtime** |" in line
    }
    assert bold == {row.query for row in ROWS if len(set(row.lanes)) > 1}
    assert len(bold) == 2


def test_every_reason_has_an_example() -> None:
    """Each code is in a table; `declared` is in the text about overriding."""
    assert {row.code for row in ROWS} == set(Code) - {Code.DECLARED}


@pytest.mark.parametrize("text", YAML, ids=[str(n) for n in range(len(YAML))])
def test_the_files_on_the_page_are_right(text: str) -> None:
    """Whatever the page shows of audiences.yaml can be used."""
    assert read_registry(text).entries


def test_queries_in_commands_are_right() -> None:
    """So can the queries that it tells people to try."""
    found = re.findall(r'--query "([^"]+)"', PAGE)
    assert found
    assert all(parse_audience(query) for query in found)
