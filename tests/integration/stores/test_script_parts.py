"""Each script names the parts that it uses, all of them and no other.

Who uses what is known from the compiler of the server itself: a name that a script or a part does
not have is a global there.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from worker.stores.sources import FIRST, needs, sources

EVERY = sources().scripts | sources().parts
PARTS = sorted(sources().parts)
LUA = {
    "ARGV", "KEYS", "cmsgpack", "error", "ipairs", "math", "next", "pairs", "pcall", "redis",
    "string", "table", "tonumber", "tostring", "unpack",
}  # fmt: skip

HEADER = b"\x1bLuaQ\x00\x01\x04\x08\x04\x08\x00"
GETGLOBAL, SETGLOBAL = 5, 7
NIL, BOOLEAN, NUMBER, STRING = 0, 1, 3, 4


@dataclass
class Compiled:
    """A chunk of Lua 5.1: the globals that it uses, and the locals that it has at its end."""

    dump: bytes
    at: int = len(HEADER)
    uses: set[str] = field(default_factory=set)
    has: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        assert self.dump.startswith(HEADER)
        self.has = self._function()
        assert self.at == len(self.dump)

    def _take(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self.dump, self.at)
        self.at += struct.calcsize(f"<{kind}")
        return value

    def _many(self) -> range:
        return range(self._take("i"))

    def _string(self) -> str:
        size = self._take("Q")
        found = self.dump[self.at : self.at + size]
        self.at += size
        return found[:-1].decode()

    def _constant(self) -> Any:
        kind = self._take("B")
        if kind == NIL:
            return None
        return self._string() if kind == STRING else self._take({BOOLEAN: "B", NUMBER: "d"}[kind])

    def _function(self) -> set[str]:
        """Read one function and those within; the locals that live until its end."""
        self._string()  # where it comes from
        self.at += 12  # its lines, and how many values of which kind it takes
        code = [self._take("I") for _ in self._many()]
        constants = [self._constant() for _ in self._many()]
        of_globals = (one for one in code if one & 0x3F in (GETGLOBAL, SETGLOBAL))
        self.uses |= {constants[one >> 14] for one in of_globals}
        for _ in self._many():
            self._function()
        for _ in self._many():
            self._take("i")  # the line of an instruction
        spans = [(self._string(), self._take("i"), self._take("i")) for _ in self._many()]
        for _ in self._many():
            self._string()  # a name from around it
        return {name for name, _, end in spans if end == len(code) - 1}


@pytest.fixture(scope="module")
def compiled(session_server: Any) -> Iterator[dict[str, Compiled]]:
    """All scripts and parts, each compiled by itself."""
    compiling = "return string.dump(assert(loadstring(ARGV[1])))"
    # A part ends where no block of it does: see `_function`.
    texts = EVERY | {name: sources().parts[name] + "return\n" for name in PARTS}
    with session_server.client() as client:
        yield {name: Compiled(client.eval(compiling, 0, text)) for name, text in texts.items()}


@pytest.fixture(scope="module")
def part_of(compiled: dict[str, Compiled]) -> dict[str, str]:
    """Name -> the part that has it."""
    return {name: part for part in PARTS for name in compiled[part].has}


@pytest.mark.parametrize("name", sorted(EVERY))
class TestNeeds:
    def test_every_part_that_is_used_is_named(
        self, compiled: dict[str, Compiled], part_of: dict[str, str], name: str
    ) -> None:
        """No script reaches for what is not in front of it, or is there by another's need alone."""
        used = {one: part_of.get(one, "nobody") for one in compiled[name].uses - LUA}
        named = {FIRST, *needs(EVERY[name])}
        assert {one: part for one, part in used.items() if part not in named} == {}

    def test_every_part_that_is_named_is_used(
        self, compiled: dict[str, Compiled], part_of: dict[str, str], name: str
    ) -> None:
        """No call pays for a part that its script has no use for."""
        used = {part_of.get(one) for one in compiled[name].uses}
        assert [part for part in needs(EVERY[name]) if part not in used] == []


class TestParts:
    def test_no_name_is_in_two_parts(self, compiled: dict[str, Compiled]) -> None:
        """What a name means does not hang on the order of the parts."""
        every = sorted(name for part in PARTS for name in compiled[part].has)
        assert every == sorted(set(every))

    def test_a_part_has_what_the_reader_sees(self, compiled: dict[str, Compiled]) -> None:
        """The compiler's word is read right: locals of a block within are no part's."""
        assert compiled[FIRST].has == {"P", "call", "now"}
        assert compiled["lanes"].has == {"LISTS", "LIST_NAMES"}

    def test_no_part_is_left_over(self) -> None:
        """Somebody needs each of them."""
        assert {FIRST}.union(*map(needs, EVERY.values())) == set(PARTS)

    def test_scripts_and_parts_have_names_of_their_own(self) -> None:
        """A name says which of them is meant."""
        assert sources().scripts.keys() & sources().parts.keys() == set()
