"""Reading lines in groups: nothing lost, nothing kept that is too long."""

import gzip
import io
import random

import pytest

from producer.json_text import MESSAGE_MAX_BYTES
from producer.lines import BrokenInput, Group, LineReader, open_input


def groups_of(content: bytes, size: int = 100) -> list[Group]:
    with open_input("-", io.BufferedReader(io.BytesIO(content))) as opened:
        return list(LineReader(opened.text).groups(size))


def lines_of(content: bytes) -> list[tuple[int, bytes]]:
    return [line for group in groups_of(content) for line in group.lines]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a\nb\n", [(1, b"a"), (2, b"b")]),
        (b"a\nb", [(1, b"a"), (2, b"b")]),
        (b"a\r\nb\r\n", [(1, b"a"), (2, b"b")]),
        (b"\n \na\n\r\n\t\nb\n\n", [(3, b"a"), (6, b"b")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [(1, b"a"), (2, b"\xef\xbb\xbfb")]),
        (b"a\rb\n", [(1, b"a\rb")]),
    ],
)
def test_line_ends_and_marks(content: bytes, lines: list[tuple[int, bytes]]) -> None:
    """Line ends of both kinds, a byte order mark, empty lines and a missing last line end."""
    assert lines_of(content) == lines
    assert lines_of(gzip.compress(content)) == lines


def test_groups_have_fixed_borders() -> None:
    """Groups are counted in lines, empty ones included, so that a restart finds the same."""
    groups = groups_of(b"a\n\nb\nc\nd\n", size=2)
    assert [(group.first, group.last, group.offset) for group in groups] == [
        (1, 2, 3), (3, 4, 7), (5, 5, 9),
    ]  # fmt: skip


def test_reading_goes_on_at_an_offset() -> None:
    """Behind a known line the rest is the same as in one go."""
    content = b"".join(b"line %d\n" % number for number in range(1, 51))
    whole = groups_of(content, size=10)
    for packed in (content, gzip.compress(content)):
        with open_input("-", io.BufferedReader(io.BytesIO(packed))) as opened:
            reader = LineReader(opened.text, after_line=20, offset=whole[1].offset)
            assert list(reader.groups(10)) == whole[2:]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("length", [MESSAGE_MAX_BYTES, MESSAGE_MAX_BYTES + 1, 10_000_000])
def test_long_lines_are_cut_not_kept(length: int, end: bytes) -> None:
    """One that is allowed comes whole, one that is not comes cut and too long; the next is safe."""
    content = b"x" * length + end + (b"next\n" if end else b"")
    (group,) = groups_of(content)
    kept = len(group.lines[0][1])
    assert kept == length if length <= MESSAGE_MAX_BYTES else MESSAGE_MAX_BYTES < kept < 40_000
    assert group.lines[1:] == ([(2, b"next")] if end else [])
    assert group.offset == len(content)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_gzip_gives_what_is_whole(damage: str) -> None:
    """The lines before the damage come, then a clear error."""
    noise = random.Random(3)
    content = b"".join(b"%d\n" % noise.getrandbits(64) for _ in range(200_000))
    packed = bytearray(gzip.compress(content))
    if damage == "cut":
        del packed[-len(packed) // 3 :]
    else:
        packed[-4] ^= 0xFF
    with open_input("-", io.BufferedReader(io.BytesIO(bytes(packed)))) as opened:
        seen: list[tuple[int, bytes]] = []
        groups = LineReader(opened.text).groups(1_000)
        with pytest.raises(BrokenInput, match="import it again"):
            seen.extend(line for group in groups for line in group.lines)
    assert len(seen) > 100_000
    assert [line for _, line in seen] == content.split(b"\n")[: len(seen)]
