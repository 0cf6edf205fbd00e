"""What stands in the way of sending, in words: who waits for a delivery should know why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redis.exceptions import RedisError

from console.checks.running import TICK_LATE_MS
from console.deployment import Deployment
from console.destination import SHADOW, destination_state, state_said
from console.instants import iso
from console.paper import many, without_login
from console.refused import Refused
from worker.stores.audience_books import AudienceBook
from worker.stores.outstanding import Outstanding


@dataclass(frozen=True, slots=True)
class Obstacle:
    """`passes`: by itself; otherwise somebody has to do what `todo` says."""

    code: str
    said: str
    todo: str
    passes: bool = False

    @property
    def text(self) -> str:
        """Both, as sentences."""
        return f"{self.sentence} {self.todo}"

    @property
    def sentence(self) -> str:
        """What is said, as a sentence. So it never begins with a key, whose case matters."""
        return f"{self.said[:1].upper()}{self.said[1:]}."

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return asdict(self)

    def refused(self) -> Refused:
        """The same as the end of a command."""
        return Refused(1, self.code, self.text, self.said, todo=self.todo)


def obstacles(deployment: Deployment) -> list[Obstacle]:
    """Those that concern every audience; none if all is well."""
    stores, found = deployment.stores, []
    if not stores.workers.alive():
        found.append(Obstacle("no_worker", "no worker is alive", "Start one: `persona-sync up`."))
    else:
        age = stores.workers.tick_age_ms()
        if age is None or age > TICK_LATE_MS:
            todo = "Start the beat: `persona-sync up`, or the service `beat` of docker-compose.yml."
            # Before the first tick of all, workers and beat are just being started.
            found.append(Obstacle("no_beat", "no beat is at work", todo, passes=age is None))
    mode = stores.mode.read().mode
    if mode == SHADOW:
        todo = "Everything goes its way, and is counted; `status` has the figures of the shadow."
        found.append(Obstacle(SHADOW, "this is a shadow: nothing reaches Braze", todo, True))
    destination, now = stores.allowance.destination(), deployment.now_ms()
    state, reason, until = destination_state(destination, now)
    if state in ("paused", "unreachable"):
        passes = destination.stop is None
        said = f"Braze is {state_said(state, reason, iso(until) if until else None)}"
        todo = "This passes." if passes else "`persona-sync check` says what to do."
        if destination.stop == "operator":
            todo = "`persona-sync resume` lifts that."
        found.append(Obstacle(state, said, todo, passes))
    return found


def what_holds(deployment: Deployment, key: str | None, left: Outstanding) -> list[Obstacle]:
    """Those, and what keeps these who are left of a key (None: of all) from being sent."""
    found = obstacles(deployment)
    if not left.users:
        return found
    if left.over >= left.users:
        said = f"the data points of today are spent: {many(left.over, 'user')} held"
        todo = "They go at 00:00 UTC; `persona-sync check` says which setting to raise."
        found.append(Obstacle("over_budget", said, todo))
    book = deployment.books().get(key) if key else None
    if book and (not_sent := why_not_sent(book)) is not None:
        found.append(not_sent)
    return found


def once_sent(found: Sequence[Obstacle]) -> list[Obstacle]:
    """What is left of them when nobody waits any more: in a shadow nobody was sent, either."""
    return [one for one in found if one.code == SHADOW]


def server_away(error: RedisError) -> Obstacle:
    """Whoever watched is told that the server no longer answers."""
    said = f"the Redis server does not answer: {without_login(str(error))}"
    return Obstacle("server_away", said, "See that it runs; `persona-sync check` says more.")


def why_not_sent(book: AudienceBook) -> Obstacle | None:
    """Why nothing of an audience is sent, if it is not to be; None if it is."""
    if book.order and book.order.retired:
        return _why_no_last_value(book)
    if book.order and book.order.is_disabled:
        why = f" ({book.order.why})" if book.order.why else ""
        said = f"nothing of {book.key} is sent: it was disabled by {book.order.by}{why}"
        return Obstacle("disabled", said, f"`persona-sync audiences enable {book.key}` ends that.")
    if book.rule.shadowed:
        said = f"nothing of {book.key} is sent: {book.rule.shadowed} is sent under its name"
        todo = "Give one of them another attribute in audiences.yaml."
        return Obstacle("shadowed", said, todo)
    if not book.rule.enabled:
        todo = "Remove that line, and the workers take it up within seconds."
        said = f"nothing of {book.key} is sent: it has `enabled: false` in audiences.yaml"
        return Obstacle("disabled", said, todo)
    return None


def _why_no_last_value(book: AudienceBook) -> Obstacle | None:
    """A retired key gets its last value whatever else was said of it, if its name is its own."""
    if not (writer := book.rule.shadowed):
        return None
    said = f"the last value of {book.key} is not sent: {writer} is sent under its name"
    todo = f"It goes once {writer} has another attribute, or is no longer in audiences.yaml."
    return Obstacle("shadowed", said, todo)


def refuse_retired(book: AudienceBook) -> None:
    """Raise Refused if the key is closed for good."""
    if book.order and book.order.retired:
        said = f"{book.key} was retired by {book.order.by}, and is closed for good."
        raise Refused(1, "retired", said, value=book.order.retired)
