"""How commands that concern many users go: the cost first, then the question, then the progress."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import typer
from rich.table import Table

from console.deployment import Deployment
from console.obstacles import Obstacle, obstacles, once_sent, server_away, what_holds
from console.paper import for_bars, for_people, many
from console.sweeps_shown import SweepShown, read_sweeps
from console.watching import SERVER_AWAY, Look, StoppedWatching, watch
from worker.pipeline.rules import Work
from worker.stores.outstanding import Outstanding


@contextmanager
def counting(as_json: bool) -> Iterator[Callable[[int], None]]:
    """Shows on a terminal how many users were counted so far."""
    out = for_bars()
    if as_json or not out.is_terminal:
        yield lambda users: None
        return
    with out.status("Counting") as status:
        yield lambda users: status.update(f"Counting: {many(users, 'user')}")


def shown_with(title: str, rows: Sequence[tuple[str, str]], as_json: bool) -> None:
    """The cost for people; on standard error where a document follows."""
    table = Table(
        box=None, show_header=False, pad_edge=False, title=title, title_justify="left",
        title_style="bold",
    )  # fmt: skip
    table.add_column()
    table.add_column()
    for name, said in rows:
        table.add_row(f"  {name}", said)
    for_people(stderr=as_json).print(table)


def dry_run_over(report: dict[str, Any], said: str, as_json: bool) -> None:
    """Nothing is done; say how to go on."""
    if as_json:
        typer.echo(orjson.dumps({**report, "begun": False}).decode())
    else:
        typer.echo(said)


@dataclass
class Under:
    """Work under way: first the users are gone through, then what differs is sent."""

    deployment: Deployment
    work: Work
    key: str | None
    begun_ms: int
    sweep: SweepShown | None = None
    left: Outstanding | None = None
    in_the_way: list[Obstacle] = field(default_factory=list)
    most: int = 0

    def go_on(self, report: dict[str, Any], wait: bool, as_json: bool) -> int:
        """Tell that it has begun, or watch it to its end; the exit code."""
        code = 0
        try:
            watch(self.look) if wait else self.look()
        except StoppedWatching:
            code = 130
        except SERVER_AWAY as error:
            self.in_the_way = [server_away(error)]
        if self.in_the_way:
            code = code or 1
        found = {**report, "begun": True, **self.report()}
        if as_json:
            typer.echo(orjson.dumps(found).decode())
        else:
            for_people().print(self._said(wait, code), soft_wrap=True)
        return code

    def look(self) -> Look:
        """How far it is. Over if all is sent, or if what is left needs a person or another day."""
        deployment = self.deployment
        self.sweep = self._of_mine()
        if self.sweep is None or self.sweep.done_ms is None:
            self.in_the_way = obstacles(deployment)
            return self._look_at(self.sweep)
        self.left = deployment.outstanding(self.key, self.sweep.done_ms)
        self.most = max(self.most, self.left.users, self.sweep.points)
        self.in_the_way = what_holds(deployment, self.key, self.left)
        said = f"{many(self.left.users, 'user')} to be sent"
        said += "".join(f"; {one.said}" for one in self.in_the_way)
        is_over = not self.left.users or self._is_stuck
        if not self.left.users:
            self.in_the_way = once_sent(self.in_the_way)
        return Look(said, self.most - self.left.users, self.most, is_over)

    def _look_at(self, sweep: SweepShown | None) -> Look:
        """While users are gone through."""
        if sweep is None:
            return Look("waiting for a worker to take it up", 0, None, self._is_stuck)
        said = f"{sweep.users:,} users looked at, {sweep.changed:,} concerned"
        return Look(said, sweep.users, sweep.total, self._is_stuck)

    @property
    def _is_stuck(self) -> bool:
        return any(not one.passes for one in self.in_the_way)

    def _of_mine(self) -> SweepShown | None:
        found = read_sweeps(self.deployment.stores, self.deployment.partitions)
        mine = [
            one
            for one in found
            if one.work is self.work
            and one.key == (self.key or "")
            and one.begun_ms >= self.begun_ms
        ]
        return max(mine, key=lambda one: one.begun_ms, default=None)

    @property
    def is_done(self) -> bool:
        """All was gone through, and sent."""
        return self.left is not None and not self.left.users

    def report(self) -> dict[str, Any]:
        """As a document."""
        return {
            "done": self.is_done,
            "sweep": self.sweep.as_json() if self.sweep else None,
            "left": self.left.users if self.left else None,
            "held": self.left.held if self.left else None,
            "over_budget": self.left.over if self.left else None,
            "in_the_way": [one.as_json() for one in self.in_the_way],
        }

    def _said(self, waited: bool, code: int) -> str:
        lines = [one.text for one in self.in_the_way]
        if self.is_done:
            assert self.sweep is not None
            users, points = self.sweep.changed, self.sweep.points
            verb = "counted" if once_sent(self.in_the_way) else "sent"
            said = f"Done: {many(users, 'user')}, {many(points, 'data point')}, all {verb}."
            return "\n".join([said, *lines])
        on = "`persona-sync status` shows how far it is."
        if not waited and not any(one.code == "server_away" for one in self.in_the_way):
            return "\n".join([f"Begun. It goes on by itself; {on}", *lines])
        why = "Only the watching has stopped" if code == 130 else "What was ordered stands"
        return "\n".join([f"{why}: it goes on by itself; {on}", *lines])
