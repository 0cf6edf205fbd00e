"""The text of each Lua script: its flags, the parts that it needs, and the script itself.

A part (`lua/parts/`) is what scripts share about one subject. Whoever uses it says
so in its first line, `-- needs: a, b`; a part may need others. Only these are put in front, each
once and after what it needs, because a server runs all of it anew at each call. `partition` is in
front of every script of a partition.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# Draining must go on when memory is full: what drains makes room (server 7.0 or later).
_FLAGS = "#!lua flags=allow-oom\n"
# What only reads runs on a read-only server, too, and with its memory full.
_READS = "#!lua flags=no-writes\n"
_READERS = frozenset({"trace"})
_NEEDS = "-- needs: "
FIRST = "partition"


class UnknownPart(LookupError):
    """A script needs a part that there is no file of."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Scripts and parts by name, as they are written.

    Raises UnknownPart when one of them needs a part that is not there.
    """

    scripts: dict[str, str]
    parts: dict[str, str]

    def __post_init__(self) -> None:
        for name, source in (self.scripts | self.parts).items():
            for part in needs(source):
                if part not in self.parts:
                    raise UnknownPart(f"{name}.lua needs {part!r}: there is no parts/{part}.lua")

    def alone(self, name: str) -> str:
        """A script that stands by itself, with what it needs in front of it."""
        return self._put_together(name, {})

    def on_partition(self, name: str) -> str:
        """A script of one partition, with what it needs in front of it."""
        front: dict[str, str] = {}
        self._put(front, self.parts[FIRST])
        return self._put_together(name, {**front, FIRST: self.parts[FIRST]})

    def _put_together(self, name: str, front: dict[str, str]) -> str:
        self._put(front, self.scripts[name])
        return _flags(name) + "".join(front.values()) + self.scripts[name]

    def _put(self, front: dict[str, str], source: str) -> None:
        for part in needs(source):
            if part not in front:
                self._put(front, self.parts[part])
                front[part] = self.parts[part]


def needs(source: str) -> list[str]:
    """The parts that a script or part names in its first line."""
    first = source.partition("\n")[0]
    return first.removeprefix(_NEEDS).split(", ") if first.startswith(_NEEDS) else []


@cache
def sources() -> Sources:
    """All of them, read once: an upgrade replaces files while a process is still running."""
    return Sources(_read("lua"), _read("lua/parts"))


def _read(folder: str) -> dict[str, str]:
    found = (file for file in files("worker.stores").joinpath(folder).iterdir() if file.is_file())
    return {file.name.removesuffix(".lua"): file.read_text() for file in found}


def _flags(name: str) -> str:
    return _READS if name in _READERS else _FLAGS
