"""The watchdog: deadlines in any order, and no socket touched after its call has let go."""

import socket

import pytest

from worker.braze.watchdog import TotalOver, Watchdog


@pytest.fixture
def dog(clock):
    """A watchdog that is stopped when the test ends."""
    watchdog = Watchdog(clock)
    yield watchdog
    watchdog.stop()


@pytest.fixture
def pair():
    """Two sockets that are connected with each other."""
    here, there = socket.socketpair()
    for sock in (here, there):
        sock.settimeout(5)
    yield here, there
    here.close()
    there.close()


def test_the_earliest_ends_first(dog, clock, pair):
    """A short deadline set after a long one is not late."""
    here, there = pair
    long = dog.begin(clock() + 60, clock() + 60)
    short = dog.begin(clock() + 0.05, clock() + 0.05)
    short.begin_sending(here)
    assert there.recv(1) == b""
    assert (short.end(), long.end()) == (False, True)


def test_a_call_that_ended_is_left_alone(dog, clock, pair):
    """Its socket may serve another call by then."""
    here, there = pair
    done = dog.begin(clock() + 0.03, clock() + 0.03)
    done.begin_sending(here)
    assert done.end()
    marker = dog.begin(clock() + 0.06, clock() + 0.06)
    other, end = socket.socketpair()
    with other, end:
        end.settimeout(5)
        marker.begin_sending(other)
        assert end.recv(1) == b""
    here.sendall(b"x")
    assert there.recv(1) == b"x"
    assert done.end()


def test_connecting_has_its_own_deadline(dog, clock, pair):
    """A handshake ends at the connect's limit, and a connection that stands has until the total."""
    here, there = pair
    slow = dog.begin(clock() + 60, clock() + 0.05)
    slow.connecting(here)
    assert there.recv(1) == b""
    with pytest.raises(TotalOver):
        slow.begin_sending(here)
    assert not slow.sending


def test_sending_lifts_the_connect_deadline(dog, clock, pair):
    """What connected in time is not ended by the connect's limit."""
    here, there = pair
    call = dog.begin(clock() + 60, clock() + 0.03)
    call.connecting(here)
    call.begin_sending(here)
    marker = dog.begin(clock() + 0.06, clock() + 0.06)
    other, end = socket.socketpair()
    with other, end:
        end.settimeout(5)
        marker.begin_sending(other)
        assert end.recv(1) == b""
    here.sendall(b"x")
    assert there.recv(1) == b"x"
    assert call.end()


def test_nothing_begins_after_the_total(dog, clock, pair):
    """A call whose time is over may not send, even if the watchdog has not come yet."""
    call = dog.begin(clock() + 60, clock() + 60)
    clock.shift += 61
    with pytest.raises(TotalOver):
        call.left_to_connect()
    with pytest.raises(TotalOver):
        call.begin_sending(pair[0])
    assert not call.sending


def test_ended_calls_do_not_pile_up(dog, clock):
    """The heap holds what is under way, not what was."""
    for _ in range(1_000):
        dog.begin(clock() + 60, clock() + 60).end()
    assert len(dog._heap) <= 1
