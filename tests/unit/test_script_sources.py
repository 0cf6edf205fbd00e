"""How the text of a script is put together."""

import pytest

from worker.stores.sources import Sources, UnknownPart, needs, sources

PARTS = {
    "partition": "local P\n",
    "rules": "-- The rules.\nlocal rule\n",
    "due": "-- needs: rules\nlocal due_of\n",
    "lists": "-- needs: rules\nlocal schedule\n",
    "budget": "local room\n",
}


def put_together(script: str) -> list[str]:
    """The lines of a script of a partition, after its flags."""
    return Sources({"it": script}, PARTS).on_partition("it").splitlines()[1:]


class TestPutTogether:
    def test_what_is_needed_is_in_front_once_and_in_order(self) -> None:
        """A part comes after what it needs itself; one that two of them need comes once."""
        lines = put_together("-- needs: due, lists\nreturn 1\n")
        assert [line for line in lines if not line.startswith("--")] == [
            "local P",
            "local rule",
            "local due_of",
            "local schedule",
            "return 1",
        ]

    def test_nothing_else_is_in_front(self) -> None:
        """A script that needs no part has the partition alone."""
        assert put_together("-- Says one.\nreturn 1\n") == ["local P", "-- Says one.", "return 1"]

    def test_one_that_stands_by_itself_has_nothing_in_front(self) -> None:
        """Only the flags are."""
        flags, *lines = Sources({"it": "return 1\n"}, PARTS).alone("it").splitlines()
        assert flags == "#!lua flags=allow-oom"
        assert lines == ["return 1"]

    def test_one_that_stands_by_itself_names_what_it_needs_all_the_same(self) -> None:
        """That is in front of it, and the partition is not."""
        it = "-- needs: due\nreturn 1\n"
        lines = Sources({"it": it}, PARTS).alone("it").splitlines()[1:]
        told = [line for line in lines if not line.startswith("--")]
        assert told == ["local rule", "local due_of", "return 1"]

    def test_the_partition_comes_after_what_it_needs(self) -> None:
        """And what a script needs of that again comes once."""
        parts = {"partition": "-- needs: clock\nlocal P\n", "clock": "local moment\n"}
        text = Sources({"it": "-- needs: clock\nreturn 1\n"}, parts).on_partition("it")
        told = [line for line in text.splitlines()[1:] if not line.startswith("--")]
        assert told == ["local moment", "local P", "return 1"]

    def test_who_only_reads_is_marked(self) -> None:
        """A server that takes no writes runs it all the same."""
        assert sources().on_partition("trace").startswith("#!lua flags=no-writes\n")
        assert sources().on_partition("claim").startswith("#!lua flags=allow-oom\n")


class TestNames:
    def test_needs_are_the_first_line(self) -> None:
        """Further down it is a comment like any other."""
        assert needs("-- needs: due, lists\n-- Says one.\n") == ["due", "lists"]
        assert needs("-- Says one.\n-- needs: due\n") == []

    @pytest.mark.parametrize(("script", "part"), [("-- needs: rulez\n", "rulez"), ("", "dew")])
    def test_an_unknown_part_is_refused_at_once(self, script: str, part: str) -> None:
        """Before any script has run, be it a script or a part that needs it."""
        parts = PARTS if script else PARTS | {"due": "-- needs: dew\n"}
        with pytest.raises(UnknownPart, match=rf"needs '{part}'.*no parts/{part}\.lua"):
            Sources({"it": script}, parts)
