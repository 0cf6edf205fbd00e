"""What a reply means, status by status."""

import json

import pytest

from worker.pipeline import outcome
from worker.pipeline.outcome import Course, Hints, Then, Verdict
from worker.pipeline.reply import Reply, Trouble

NOW = 1_795_514_400.0  # 2026-11-24 10:00:00 UTC
DATE = "Tue, 24 Nov 2026 10:00:00 GMT"
D, R, U, X = Verdict.DELIVERED, Verdict.RETRY, Verdict.UNKNOWN, Verdict.DEAD


def read(status, body=b"", count=3, now=NOW, **headers):
    """Read a reply; header names are written with `_`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = Reply(status=status, headers=named, body=content)
    return outcome.read(reply, count, body_bytes=1_000, now=now)


def verdicts(found):
    """The verdicts alone."""
    return [item.verdict for item in found.items]


def error(index, text="bad", array="attributes"):
    """One entry of `errors` as it was observed."""
    return {"type": text, "input_array": array, "index": index}


class TestAccepted:
    """A 2xx delivers whom it does not name."""

    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    @pytest.mark.parametrize("message", ["success", "queued"])
    def test_success_delivers_all(self, status, message):
        """Any 2xx with success or queued."""
        found = read(status, {"message": message, "attributes_processed": 3})
        assert verdicts(found) == [D, D, D]
        assert (found.then, found.course, found.reason) == (Then.NOTHING, Course.FINE, "accepted")
        assert found.notes == ()

    @pytest.mark.parametrize("errors", [None, [], {}, ""])
    def test_empty_errors_are_none(self, errors):
        """Null and nothing are no errors."""
        assert verdicts(read(201, {"message": "success", "errors": errors})) == [D, D, D]

    def test_named_items_are_dead_with_their_text(self):
        """The item keeps Braze's words; the others are delivered."""
        text = "'external_id' must be fewer than 988 bytes"
        body = {"message": "success", "attributes_processed": 2, "errors": [error(1, text)]}
        found = read(201, body)
        assert verdicts(found) == [D, X, D]
        assert found.items[1].reason == text
        assert (found.then, found.course) == (Then.NOTHING, Course.FINE)
        assert found.notes == ()

    @pytest.mark.parametrize("message", ["failure", "", None, 7, ["success"], "unsuccessful"])
    def test_another_message_accepted_nothing(self, message):
        """A 2xx that does not say so delivered nothing."""
        found = read(201, {"message": message, "errors": [error(0)]})
        assert verdicts(found) == [R, R, R]
        assert (found.course, found.reason) == (Course.FAILING, "nothing_accepted")

    @pytest.mark.parametrize("body", [b"", b"<html>ok</html>", b"[]", b'"success"', b"\xff", b"{"])
    def test_an_unreadable_body_is_ambiguous(self, body):
        """Without a message nobody knows."""
        found = read(201, body)
        assert verdicts(found) == [U, U, U]
        assert (found.course, found.reason) == (Course.FAILING, "unreadable_body")

    @pytest.mark.parametrize(
        "entry",
        [
            "something is wrong",
            {"type": "bad"},
            {"type": "bad", "input_array": "attributes"},
            {"type": "bad", "index": 1},
            error(3),
            error(-1),
            error(True),
            error("1"),
            error(1.0),
            None,
            17,
            ["bad"],
            error(1, array=None),
            error(1, array=4),
        ],
    )
    def test_an_error_without_a_usable_index(self, entry):
        """Whoever is not named is unknown, and the poison is looked for."""
        found = read(201, {"message": "success", "errors": [error(0), entry]})
        assert verdicts(found) == [X, U, U]
        assert (found.then, found.course) == (Then.ISOLATE, Course.FINE)

    @pytest.mark.parametrize("entry", ["refused", {"type": "refused"}, error(5, "refused")])
    def test_an_item_refused_alone_is_dead(self, entry):
        """Alone, it can only be the one."""
        found = read(201, {"message": "success", "errors": [entry]}, count=1)
        assert verdicts(found) == [X]
        assert found.items[0].reason == "refused"
        assert found.then is Then.NOTHING

    def test_errors_that_are_no_list(self):
        """One error may stand by itself."""
        assert read(201, {"message": "success", "errors": "oh"}).then is Then.ISOLATE
        assert verdicts(read(201, {"message": "success", "errors": error(2)})) == [D, D, X]

    def test_errors_of_another_array_are_noted(self):
        """We send attributes only."""
        found = read(201, {"message": "success", "errors": [error(0, array="events")]})
        assert verdicts(found) == [D, D, D]
        assert found.notes == ("1 errors of arrays that were not sent",)

    def test_all_named_needs_no_search(self):
        """When everybody is named, a nameless error adds nothing."""
        errors = [error(0), error(1), error(2), "more"]
        found = read(201, {"message": "success", "errors": errors})
        assert verdicts(found) == [X, X, X]
        assert found.then is Then.NOTHING

    def test_a_differing_count_is_noted_only(self):
        """`attributes_processed` names nobody."""
        found = read(201, {"message": "success", "attributes_processed": 1})
        assert verdicts(found) == [D, D, D]
        assert found.notes == ("processed 1, expected 3",)


class TestRefused:
    """A 400 and its like accepted nothing; some items may be to blame."""

    @pytest.mark.parametrize("status", [400, 409, 422, 418, 499])
    def test_the_named_are_dead_and_the_rest_goes_again(self, status):
        """No search where names are given."""
        found = read(status, {"message": "Valid data must be provided", "errors": [error(2)]})
        assert verdicts(found) == [R, R, X]
        assert (found.then, found.course) == (Then.RESEND_REST, Course.FINE)
        assert found.reason == f"status_{status}"

    def test_all_named(self):
        """Nobody is left to be sent."""
        found = read(400, {"message": "no", "errors": [error(0), error(1), error(2)]})
        assert (verdicts(found), found.then) == ([X, X, X], Then.NOTHING)

    @pytest.mark.parametrize(
        "body",
        [{"message": "no"}, {"errors": ["no"]}, {"errors": [error(0, array="events")]}, b"<html>"],
    )
    def test_without_names_the_poison_is_looked_for(self, body):
        """All go again, in parts."""
        found = read(400, body)
        assert (verdicts(found), found.then) == ([R, R, R], Then.ISOLATE)
        assert found.course is Course.FINE

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"message": "no good"}, "no good"),
            ({"message": "no", "errors": [{"type": "bad id"}]}, "bad id"),
            (b"<html>", "status_400"),
            (b"", "status_400"),
        ],
    )
    def test_alone_it_is_dead(self, body, said):
        """With Braze's words, or the status."""
        found = read(400, body, count=1)
        assert (verdicts(found), found.items[0].reason) == ([X], said)
        assert found.then is Then.NOTHING

    @pytest.mark.parametrize(
        "body",
        [
            {"message": "Max Input Length Exceeded"},
            {"message": "max number of external_ids and aliases exceeded"},
            {"message": "no", "errors": ["Max input length exceeded."]},
            {"message": "no", "errors": [{"type": "Max Input Length Exceeded"}]},
        ],
    )
    def test_too_many_objects(self, body):
        """Halves go again, and the number is remembered."""
        found = read(400, body)
        assert (verdicts(found), found.then) == ([R, R, R], Then.HALVES)
        assert (found.max_objects, found.max_bytes) == (3, None)
        assert found.course is Course.FINE

    def test_too_many_bytes(self):
        """So for 413, with the bytes."""
        found = read(413, b"<html>")
        assert (verdicts(found), found.then) == ([R, R, R], Then.HALVES)
        assert (found.max_objects, found.max_bytes) == (None, 1_000)

    @pytest.mark.parametrize(
        ("status", "body"), [(413, b""), (400, {"message": "Max Input Length Exceeded"})]
    )
    def test_one_item_has_no_halves(self, status, body):
        """Too large alone is refused for good, and teaches no limit."""
        found = read(status, body, count=1)
        assert (verdicts(found), found.then) == ([X], Then.NOTHING)
        assert (found.max_objects, found.max_bytes) == (None, None)


class TestDestination:
    """Replies that judge the destination, not the items."""

    @pytest.mark.parametrize(
        "status",
        [301, 302, 307, 308, 304, 401, 402, 403, 404, 405, 407, 410, 411, 415, 426, 431, 451],
    )
    def test_stop(self, status):
        """Nobody's item is burned for a wrong key, address or header."""
        found = read(status, {"message": "no", "errors": [error(0)]})
        assert (verdicts(found), found.then) == ([R, R, R], Then.NOTHING)
        assert found.course is Course.STOP

    def test_401_names_key_and_instance(self):
        """A wrong key and a wrong instance cannot be told apart."""
        assert read(401).reason == "invalid_key_or_wrong_instance"

    def test_no_key_is_a_stop_of_its_own(self):
        """Nothing was sent, so nobody's item is unknown, and Braze has refused nothing."""
        found = outcome.read(Reply(trouble=Trouble.NO_KEY), 2, body_bytes=0, now=0.0)
        assert (found.course, found.reason) == (Course.STOP, "no_key")
        assert verdicts(found) == [R, R]

    def test_the_key_is_never_repeated(self):
        """Braze echoes the key in its 401; nothing of that body is kept."""
        found = read(401, {"message": "Invalid API key: hunter2", "errors": ["hunter2"]})
        assert "hunter2" not in repr(found)

    @pytest.mark.parametrize(
        "text",
        [
            "Invalid API key: hunter2",
            "api_key=hunter2",
            "Authorization: Bearer hunter2",
            "key 01234567-89ab-cdef-0123-456789abcdef is no good",
        ],
    )
    def test_nor_is_what_looks_like_one(self, text):
        """Also in the texts that are kept."""
        found = read(400, {"message": text}, count=1)
        assert "hunter2" not in repr(found)
        assert "456789abcdef" not in repr(found)
        assert "[redacted]" in found.items[0].reason

    def test_texts_are_short_and_on_one_line(self):
        """A reason fits a table."""
        found = read(400, {"message": "a\n\x1b[31mb " + "long " * 1_000}, count=1)
        reason = found.items[0].reason
        assert reason.startswith("a [31mb long")
        assert len(reason) <= 200
        assert reason.isprintable()

    @pytest.mark.parametrize("status", [408, 425])
    def test_not_accepted_but_transient(self, status):
        """A 4xx that asks for another attempt."""
        found = read(status)
        assert (verdicts(found), found.course) == ([R, R, R], Course.FAILING)

    @pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 529, 599, 600, 101, 999])
    def test_failing(self, status):
        """Nobody knows how far a failing server got."""
        found = read(status, {"message": "success"})
        assert (verdicts(found), found.course) == ([U, U, U], Course.FAILING)
        assert found.reason == f"status_{status}"

    def test_a_failing_server_may_ask_for_a_wait(self):
        """By name only: its window's end says nothing about a failure."""
        assert read(503, retry_after="7").wait == 7
        assert read(503, x_ratelimit_reset="7").wait is None

    @pytest.mark.parametrize(
        ("trouble", "verdict"),
        [
            (Trouble.NOT_CONNECTED, R),
            (Trouble.TIMEOUT, U),
            (Trouble.RESET, U),
            (Trouble.UNREADABLE, U),
        ],
    )
    def test_trouble(self, trouble, verdict):
        """Only what was never sent was surely not accepted."""
        found = outcome.read(Reply(trouble=trouble), 2, body_bytes=9, now=NOW)
        assert verdicts(found) == [verdict, verdict]
        assert (found.course, found.reason, found.then) == (Course.FAILING, trouble, Then.NOTHING)

    @pytest.mark.parametrize(
        ("status", "course"),
        [(201, Course.FINE), (400, Course.FINE), (401, Course.STOP), (429, Course.WAIT)],
    )
    def test_the_probe(self, status, course):
        """No items, but the destination is judged."""
        found = read(status, {"message": "success"}, count=0)
        assert (found.items, found.then, found.course) == ((), Then.NOTHING, course)


class TestWait:
    """How long a 429 asks us to wait."""

    @pytest.mark.parametrize(
        ("headers", "wait"),
        [
            ({}, None),
            ({"x_ratelimit_retry_after": "12", "retry_after": "5"}, 12),
            ({"retry_after": "5", "x_ratelimit_reset": "9"}, 5),
            ({"retry_after": "0.5"}, 0.5),
            ({"retry_after": "Tue, 24 Nov 2026 10:00:30 GMT", "date": DATE}, 30),
            ({"retry_after": "Tue, 24 Nov 2026 09:00:30 GMT", "date": DATE}, 0),
            ({"x_ratelimit_reset": "1795514460", "date": DATE}, 60),
            ({"x_ratelimit_reset": "1795514460000", "date": DATE}, 60),
            ({"x_ratelimit_reset": "1795514000", "date": DATE}, 0),
            ({"x_ratelimit_reset": "3"}, 3),
            ({"x_ratelimit_reset": "86400"}, 3_700),
            ({"x_ratelimit_retry_after": "0"}, 0),
            ({"x_ratelimit_retry_after": "soon", "retry_after": "-4", "x_ratelimit_reset": "9"}, 9),
            ({"x_ratelimit_retry_after": "nan", "retry_after": "Tue, 99 Foo"}, None),
            ({"retry_after": "7, 7"}, 7),
        ],
    )
    def test_rule(self, headers, wait):
        """Braze's header, the standard one, the window's end; garbage counts as absent."""
        found = read(429, b"", **headers)
        assert found.wait == wait
        assert (verdicts(found), found.course, found.reason) == (
            [R, R, R],
            Course.WAIT,
            "rate_limited",
        )

    def test_our_clock_does_not_matter(self):
        """An instant is read against the reply's own Date; without it, against our clock."""
        headers = {"x_ratelimit_reset": "1795514460"}
        assert read(429, now=0.0, date=DATE, **headers).wait == 60
        assert read(429, now=NOW + 50, **headers).wait == 10
        assert read(429, now=NOW + 50, date="gibberish", **headers).wait == 10


class TestHints:
    """What every reply says of the window."""

    @pytest.mark.parametrize("status", [201, 400, 401, 413, 429, 500])
    def test_they_are_read_from_every_reply(self, status):
        """Whatever the status."""
        found = read(
            status,
            {"message": "success"},
            x_ratelimit_limit="250000",
            x_ratelimit_remaining="1234",
            x_ratelimit_reset="1795514700",
            date=DATE,
        )
        assert found.hints == Hints(limit=250_000, remaining=1_234, reset_in=300)

    def test_some_may_be_missing(self):
        """Each stands for itself, and garbage counts as absent."""
        found = read(201, x_ratelimit_limit="many", x_ratelimit_remaining="0")
        assert found.hints == Hints(limit=None, remaining=0, reset_in=None)
        assert read(201, x_ratelimit_limit="-1").hints is None
        assert read(201).hints is None
