"""What persons are told: in words, without codes, and only what is worth their time."""

import pytest

from worker.delivery import TODO
from worker.pipeline import facts
from worker.pipeline.notices import in_words, notice_of
from worker.pipeline.outcome import read
from worker.pipeline.reply import Reply, Trouble


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("status_502", "it answers with an error (502)"),
        ("status_405", "it answers with an error (405)"),
        ("valve", "it refused too many objects (the valve)"),
        ("operator: a campaign (by ann)", "operator: a campaign (by ann)"),
        ("not_known_yet", "not known yet"),
    ],
)
def test_a_code_is_said_in_words(reason: str, words: str) -> None:
    """What is in words already stays; a code that nobody foresaw is readable at least."""
    assert in_words(reason) == words


@pytest.mark.parametrize("reply", [*(Reply(status=s) for s in (401, 402, 403, 404, 407, 301)),
                                   *(Reply(trouble=trouble) for trouble in Trouble),
                                   Reply(status=200, body=b"?")])  # fmt: skip
def test_every_reason_of_a_reply_has_words(reply: Reply) -> None:
    """No code of a stop or of trouble is shown as it is."""
    reason = read(reply, 1, body_bytes=10, now=0.0).reason
    assert in_words(reason) != reason.replace("_", " ")


def test_the_valve_says_what_to_do_once() -> None:
    """The reason and the advice do not say the same."""
    notice = notice_of(facts.DestinationStopped(reason="valve", todo=TODO["valve"]))
    assert notice is not None
    assert notice.text == (
        "Nothing is sent to Braze any more: it refused too many objects (the valve). Look at the "
        "dead letters, mend the cause, resume."
    )


@pytest.mark.parametrize("was_noticed", [True, False])
def test_an_end_is_told_to_who_was_told_of_the_beginning(was_noticed: bool) -> None:
    """The end of trouble that nobody heard of is for the log."""
    fact = facts.DestinationResumed(by="answer", seconds=75.4, was_noticed=was_noticed)
    notice = notice_of(fact)
    assert (notice is not None) is was_noticed
    assert notice is None or notice.text == "Braze is sent to again: it answers, after 75 s."
