"""`import --as-acknowledged`: what Braze holds already is not sent; nothing else is believed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.file_import import Progress, import_file
from worker.pipeline.fold import Desired, End, fold
from worker.pipeline.ingest import EntryId
from worker.pipeline.outcome import Verdict

SayHeld = Callable[..., Any]
T = 1_700_000_000_000
NULL_EXIT = ("r", 0, "n", 1)


class TestWhatIsBelieved:
    def test_a_value_nobody_knew_needs_no_request(self, world: Any, say_held: SayHeld) -> None:
        """The change ends unchanged, nobody is listed, and the books balance."""
        applied = say_held(world.change("u1", "vip", True, T))
        assert (applied.unchanged, applied.opened) == (1, 0)
        assert world.state("u1", "vip").acknowledged == "true"
        assert world.lists("u1") == {}
        assert world.ends() == {"unchanged": 1}
        assert world.members() == {"vip": 1}

    def test_it_is_not_said_to_be_acknowledged_by_a_request(
        self, world: Any, say_held: SayHeld
    ) -> None:
        """`trace` knows the value, and no time at which Braze acknowledged it to us."""
        say_held(world.change("u1", "vip", True, T))
        (found,) = world.memberships.trace(0, "u1")
        assert (found.acknowledged, found.acknowledged_at_ms, found.due_at_ms) == (
            "true", None, None,
        )  # fmt: skip

    def test_a_later_change_is_sent_without_a_gap(self, world: Any, say_held: SayHeld) -> None:
        """No request of ours has ended, so there is none to keep a distance from."""
        say_held(world.change("u1", "vip", True, T))
        world.say(world.change("u1", "vip", False, T + 1))
        assert list(world.lists("u1")) == ["rt:ready"]
        assert world.flush() == {"u1": {"vip": "false"}}
        assert world.ends() == {"unchanged": 1, "delivered": 1}

    def test_the_last_line_of_a_file_counts(self, world: Any, say_held: SayHeld) -> None:
        """Entered and left in the file: Braze holds that they left, whatever the envelopes."""
        say_held(world.change("u1", "vip", True, T))
        say_held(world.change("u1", "vip", False, T + 1))
        say_held(world.change("u2", "vip", True, T), world.change("u2", "vip", False, T + 1))
        assert [world.state(u, "vip").acknowledged for u in ("u1", "u2")] == ["false"] * 2
        assert not any(world.lists().values())
        assert world.ends() == {"unchanged": 4}

    def test_an_exit_may_be_held_as_null(self, world: Any, say_held: SayHeld) -> None:
        """Where leaving removes the attribute, a left audience is held as null."""
        world.declare(("vip", NULL_EXIT))
        say_held(world.change("u1", "vip", False, T))
        assert world.state("u1", "vip").acknowledged == "null"
        assert world.lists("u1") == {}

    def test_the_same_message_ends_what_waited(self, world: Any, say_held: SayHeld) -> None:
        """A message that came live and was not sent yet needs no request any more."""
        once = world.change("u1", "vip", True, T, arrived_at=T + 5)
        world.say(once)
        assert world.lists("u1")
        say_held(once)
        assert world.lists("u1") == {}
        assert world.ends() == {"unchanged": 2}

    def test_a_newer_line_supersedes_what_waited(self, world: Any, say_held: SayHeld) -> None:
        """An open change of a lower rank ends superseded, as by any other change."""
        world.say(world.change("u1", "vip", True, T))
        say_held(world.change("u1", "vip", False, T + 1))
        assert world.lists("u1") == {}
        assert world.ends() == {"superseded": 1, "unchanged": 1}


class TestWhatIsNotBelieved:
    def test_rank_decides(self, world: Any, say_held: SayHeld) -> None:
        """A newer live change stays, and is sent: Braze may hold something else by now."""
        world.say(world.change("u1", "vip", False, T + 9))
        say_held(world.change("u1", "vip", True, T))
        state = world.state("u1", "vip")
        assert (state.value, state.acknowledged) == ("false", "")
        assert world.flush() == {"u1": {"vip": "false"}}
        assert world.ends() == {"superseded": 1, "delivered": 1}

    def test_what_braze_acknowledged_to_us_stays(self, world: Any, say_held: SayHeld) -> None:
        """A file does not know better than Braze's own answer: its newer value is sent."""
        world.say(world.change("u1", "vip", True, T))
        world.flush()
        say_held(world.change("u1", "vip", False, T + 1))
        assert world.state("u1", "vip").acknowledged == "true"
        world.later(5_000)
        assert world.flush() == {"u1": {"vip": "false"}}
        assert world.ends() == {"delivered": 2}

    def test_nothing_is_believed_of_what_is_under_way(self, world: Any, say_held: SayHeld) -> None:
        """While a request carries the attribute, its end decides."""
        world.say(world.change("u1", "vip", True, T))
        world.later(200)
        claim = world.claim()
        say_held(world.change("u1", "vip", False, T + 1))
        assert world.state("u1", "vip").acknowledged == ""
        world.settle(claim)
        assert world.state("u1", "vip").acknowledged == "true"
        world.later(5_000)
        assert world.flush() == {"u1": {"vip": "false"}}
        assert world.ends() == {"delivered": 2}

    def test_nor_after_a_request_of_unknown_end(self, world: Any, say_held: SayHeld) -> None:
        """It may land late and undo what the file says, so the value is sent after the hold."""
        world.say(world.change("u1", "vip", True, T))
        world.flush(Verdict.UNKNOWN)
        say_held(world.change("u1", "vip", False, T + 1))
        assert world.state("u1", "vip").acknowledged == ""
        world.later(30_000)
        assert world.flush() == {"u1": {"vip": "false"}}
        assert world.ends() == {"superseded": 1, "delivered": 1}

    def test_other_attributes_of_a_user_in_flight_are(self, world: Any, say_held: SayHeld) -> None:
        """Only the attribute that is sent waits for the end of the request."""
        world.say(world.change("u1", "vip", True, T))
        world.later(200)
        claim = world.claim()
        say_held(world.change("u1", "gold", True, T))
        assert world.state("u1", "gold").acknowledged == "true"
        world.settle(claim)
        assert world.lists("u1") == {}
        assert world.ends() == {"delivered": 1, "unchanged": 1}


_changes = st.tuples(
    st.sampled_from(["u1", "u2"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([True, False, 450]),
    st.integers(0, 3),
)
_deeds = st.lists(
    st.one_of(
        st.tuples(st.booleans(), st.lists(_changes, min_size=1, max_size=4)),
        st.sampled_from([Verdict.DELIVERED, Verdict.UNKNOWN, Verdict.RETRY]),
    ),
    min_size=1,
    max_size=10,
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(deeds=_deeds)
def test_lua_equals_the_pure_fold(make_world: Callable[..., Any], deeds: Any) -> None:
    """Live and held changes in any mixture, with requests between them: as the pure fold."""
    world = make_world()
    pure: dict[tuple[str, str], Desired] = {}
    ends: Counter[End] = Counter()
    for deed in deeds:
        if isinstance(deed, Verdict):
            world.later(60_000)
            for place, state in [(p, s) for p, s in pure.items() if s.differs]:
                if deed is Verdict.DELIVERED:
                    ends[End.DELIVERED] += state.is_open
                    pure[place] = replace(
                        state, acknowledged=state.value, is_open=False, is_settled=True
                    )
                elif deed is Verdict.UNKNOWN:
                    pure[place] = replace(state, acknowledged=None, is_settled=True)
            world.flush(deed)
            continue
        is_held, said = deed
        # A rank is one message's, so the event time is made of all that is said.
        id_ = world.append(
            *(
                world.change(u, a, v, T + at * 10 + [True, False, 450].index(v), arrived_at=T)
                for u, a, v, at in said
            )
        )
        (entry,) = world.inbox.read(0, 10)
        ingested = world.ingested(entry)
        for user, changes in ingested.users.items():
            for change in changes:
                key = (user, change.attribute)
                pure[key], caused = fold(pure.get(key), change, is_held=is_held)
                ends.update(caused)
        ms = EntryId.parse(id_).ms
        assert world.memberships.accept(0, entry.id, ms, ingested, acknowledged=is_held).is_applied
    found = {
        (u, a): x for u, (attributes, _) in world.users().items() for a, x in attributes.items()
    }
    assert found.keys() == pure.keys()
    listed = {user for users in world.lists().values() for user in users}
    assert listed == {user for (user, _), state in pure.items() if state.differs}
    for place, state in pure.items():
        x = found[place]
        assert (x.value, x.rank, x.is_open) == (state.value, tuple(state.rank), state.is_open)
        assert (x.acknowledged or None) == state.acknowledged
        assert bool(x.since) == state.differs
    balance = world.ledger()
    assert balance.ends == {end.value: ends[end] for end in End}
    assert balance.pending == sum(state.is_open for state in pure.values())


class TestCutover:
    def test_members_that_have_not_changed_cost_nothing(self, cutover: Any) -> None:
        """Braze sees no request for an existing audience, and one object for who has changed."""
        users = [f"u{n}" for n in range(200)]
        cutover.braze_holds({user: {"vip": True} for user in users})
        done = cutover.import_acknowledged(
            *(cutover.message(user, "vip", True, "2026-01-01T00:00:00Z") for user in users)
        )
        assert done.accepted == 200
        worker = cutover.deployment.worker()
        cutover.deployment.drain(worker)
        assert cutover.sandbox.report()["requests"] == 0
        assert cutover.deployment.ledger()["unchanged"] == 200

        cutover.deployment.put("u7", vip=False)
        cutover.deployment.put("new", vip=True)
        cutover.deployment.put("u8", vip=True)  # said again, later: nothing to send
        cutover.deployment.drain(worker)
        report = cutover.sandbox.report()
        assert (report["values"], report["values_unchanged"]) == (2, 0)
        assert cutover.sandbox.attributes("u7") == {"vip": False}
        cutover.deployment.assert_right()

    def test_an_interrupted_import_goes_on(self, cutover: Any) -> None:
        """Killed between two groups and started again: every member once, still as held."""
        users = [f"u{n}" for n in range(2_500)]
        messages = [cutover.message(u, "vip", True, "2026-01-01T00:00:00Z") for u in users]
        path = cutover.file(*messages)

        def killed(progress: Progress) -> None:
            if progress.counts.accepted:
                raise KeyboardInterrupt

        producer = cutover.deployment._producer
        with pytest.raises(KeyboardInterrupt):
            import_file(path, producer, acknowledged=True, on_progress=killed)
        said: list[str] = []
        done = import_file(path, producer, acknowledged=True, say=said.append)
        assert (done.accepted, said) == (2_500, ["Going on behind line 2,000."])
        cutover.deployment.drain(cutover.deployment.worker())
        ledger = cutover.deployment.ledger()
        assert (ledger["accepted"], ledger["unchanged"]) == (2_500, 2_500)
        assert cutover.sandbox.report()["requests"] == 0

    def test_going_on_otherwise_is_another_import(self, cutover: Any) -> None:
        """An import begun as acknowledged and started again without it begins anew, and sends."""
        users = [f"u{n}" for n in range(2_100)]
        messages = [cutover.message(u, "vip", True, "2026-01-01T00:00:00Z") for u in users]
        path = cutover.file(*messages)

        def killed(progress: Progress) -> None:
            if progress.counts.accepted:
                raise KeyboardInterrupt

        producer = cutover.deployment._producer
        with pytest.raises(KeyboardInterrupt):
            import_file(path, producer, acknowledged=True, on_progress=killed)
        said: list[str] = []
        import_file(path, producer, say=said.append)
        assert said == ["The interrupted import was as acknowledged: starting anew."]
        cutover.deployment.drain(cutover.deployment.worker())
        assert cutover.sandbox.report()["values"] == 100

    def test_the_command_says_what_it_saves(self, cutover: Any) -> None:
        """In words for people; the JSON has the same shape as of any import."""
        path = cutover.file(cutover.message("u1", "vip", True, "2026-01-01T00:00:00Z"))
        done = cutover.command("import", str(path), "--as-acknowledged")
        assert done.code == 0
        assert "saves up to 1 data point." in done.out
        done = cutover.command("import", str(path), "--as-acknowledged", "--json")
        assert set(done.json) == {"read", "accepted", "refused", "skipped", "seconds"}
        assert "data points" not in cutover.command("import", str(path)).out
        cutover.deployment.drain(cutover.deployment.worker())
        assert cutover.sandbox.report()["requests"] == 0
