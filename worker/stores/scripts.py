"""Runs the Lua scripts; a script is atomic, and its author says what it checks.

Scripts are sent by digest and loaded when the server does not know them. Nothing is sent
twice: the client has no retries, because a late reply would be asked for again.

A script goes by the server's clock, and asks for it itself: that costs no round trip.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis.commands.core import Script
from redis.exceptions import NoScriptError, ResponseError

from worker.stores.keys import prefix
from worker.stores.server import Clock, Server, now_ms
from worker.stores.sources import sources

# The server ran a script and refused it; what it had not written it will not write.
ScriptFailed = ResponseError

# Scripts that stand by themselves, and to whom it does not matter how late it is.
_TIMELESS = frozenset({"lift"})


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Step(Generic[Answer]):
    """One call of a script, prepared: to be run alone, or with others in one round trip."""

    script: Script
    keys: list[str]
    args: list[Any]
    read: Callable[[Any], Answer]

    def run(self) -> Answer:
        """Run it now."""
        return self.read(self.script(keys=self.keys, args=self.args))


def together(client: Server, *steps: Step[Any]) -> list[Any]:
    """Run steps in their order, in one round trip; each is atomic, all of them together are not.

    All are run, whatever becomes of one; then the first failure is raised.
    """
    with client.pipeline(transaction=False) as pipeline:
        for step in steps:
            pipeline.evalsha(step.script.sha, len(step.keys), *step.keys, *step.args)
        answers = pipeline.execute(raise_on_error=False)
    ends: list[Any] = []
    for step, answer in zip(steps, answers, strict=True):
        if isinstance(answer, NoScriptError):
            ends.append(step.run())
        elif isinstance(answer, Exception):
            ends.append(answer)
        else:
            ends.append(step.read(answer))
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return ends


def after_reading(client: Server, name: str, field: str, step: Step[Answer]) -> tuple[Any, Answer]:
    """Run a step: (what the field of this hash was right before it, the step's answer).

    Nobody else writes between the two.
    """
    with client.pipeline(transaction=True) as both:
        both.hget(name, field)
        both.evalsha(step.script.sha, len(step.keys), *step.keys, *step.args)
        before, answer = both.execute(raise_on_error=False)
    if isinstance(answer, NoScriptError):
        client.script_load(step.script.script)
        return after_reading(client, name, field, step)
    for end in (before, answer):
        if isinstance(end, Exception):
            raise end
    return before, step.read(answer)


class Scripts:
    """Scripts bound to one client. With a `clock`, a test's, they go by that one."""

    def __init__(self, client: Server, clock: Clock | None = None) -> None:
        self.client = client
        self._clock = clock
        self._known: dict[str, Script] = {}
        self._sources = sources()

    def now_ms(self) -> int:
        """The time that scripts go by; see `server.now_ms`."""
        return now_ms(self.client, self._clock)

    def on_partition(self, name: str, partition: int, *args: Any) -> Any:
        """Run a script of one partition, with the parts that it needs in front of it."""
        return self.step_on_partition(name, partition, *args).run()

    def step_on_partition(self, name: str, partition: int, *args: Any) -> Step[Any]:
        """The same, prepared."""
        script = self._script(name, self._sources.on_partition)
        start = prefix(partition)
        return Step(script, [f"{start}ledger"], [start, self._now(), *args], _as_it_is)

    def alone(self, name: str, keys: list[str], *args: Any) -> Any:
        """Run a script that stands by itself."""
        return self.step_alone(name, keys, *args).run()

    def step_alone(self, name: str, keys: list[str], *args: Any) -> Step[Any]:
        """The same, prepared."""
        script = self._script(name, self._sources.alone)
        now = () if name in _TIMELESS else (self._now(),)
        return Step(script, keys, [*now, *args], _as_it_is)

    def _script(self, name: str, text: Callable[[str], str]) -> Script:
        if name not in self._known:
            self._known[name] = self.client.register_script(text(name))
        return self._known[name]

    def _now(self) -> int | str:
        """As scripts are given it: '' is the server's clock."""
        return self._clock() if self._clock else ""


def _as_it_is(answer: Any) -> Any:
    return answer
