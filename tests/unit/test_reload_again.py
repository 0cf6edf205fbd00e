"""A file that could not be published because others were faster is tried again."""

from types import SimpleNamespace
from typing import Any

from worker.audiences.registry import WrongRegistry
from worker.reload import Reload
from worker.stores.publication import ChangedMeanwhile


class Files:
    """A file that changed once."""

    def __init__(self) -> None:
        self.last = SimpleNamespace(registry="rules", text="text")
        self._looks = [self.last]
        self.breaks = False

    def changed(self) -> Any:
        """What it holds, at the first look after it changed."""
        if self.breaks:
            raise WrongRegistry("half a file")
        return self._looks.pop() if self._looks else None


class Contested:
    """Refuses the first publication, because somebody else publishes at the same time."""

    def __init__(self) -> None:
        self.tries = 0
        self.published: list[str] = []

    def read(self) -> Any:
        """Nothing of it matters here."""
        return SimpleNamespace(digest="d")

    def generation(self) -> int:
        """One that is never forgotten."""
        return 1

    def catch_up(self, partition: int) -> None:
        """Nothing is new."""

    def note_fault(self, text: str, by: str) -> bool:
        """Noted already."""
        return False

    def publish(self, registry: str, text: str, by: str) -> bool:
        """Taken at the second try."""
        self.tries += 1
        if self.tries == 1:
            raise ChangedMeanwhile("others were faster")
        self.published.append(text)
        return True


def test_who_was_not_fast_enough_publishes_at_the_next_tick() -> None:
    """The file did not change again, and is published all the same, once."""
    publication = Contested()
    reload: Any = Reload
    ours = reload(file=Files(), publication=publication, record=lambda fact: None, host="h")
    for _ in range(3):
        ours.look()
    assert publication.published == ["text"]


def test_a_file_that_breaks_meanwhile_is_not_published_as_it_was() -> None:
    """What was to be published is no longer what the file says."""
    publication, files = Contested(), Files()
    reload: Any = Reload
    ours = reload(file=files, publication=publication, record=lambda fact: None, host="h")
    ours.look()
    files.breaks = True
    ours.look()
    files.breaks = False
    ours.look()
    assert publication.tries == 1


def test_a_worker_that_starts_while_others_publish_starts() -> None:
    """Its file is published by its first tick."""
    publication = Contested()
    reload: Any = Reload
    ours = reload(file=Files(), publication=publication, record=lambda fact: None, host="h")
    ours.begin()
    assert publication.published == []
    ours.look()
    assert publication.published == ["text"]
