"""`publish` takes many messages; one alone is a mistake that must not lose it."""

import pytest

from producer.publish import Producer


@pytest.mark.parametrize("message", [{"type": "identify"}, b"{}", "{}"])
def test_one_message_is_not_taken_for_many(message: object) -> None:
    """A dictionary's keys or a text's letters are no messages: the caller is told."""
    producer = Producer(None, None, partitions=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="put the one into a list"):
        producer.publish(message)  # type: ignore[arg-type]
