"""`persona-sync seed`: takes over what Braze holds already, so that it is not sent again."""

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from console.asking import insist
from console.commands.pausing import pause, resume
from console.deployment import Deployment, opened
from console.destination import destination_shown, state_said
from console.instants import iso
from console.options import AsJson, By, Yes
from console.paper import for_bars, for_people, many
from console.refused import Refused
from console.seeding import Estimate, Pace, Seeder, Stuck, Terms
from console.who import this_operator
from worker.braze.client import UnusableKey
from worker.braze.instances import rest_url
from worker.braze.readback import ReadBack
from worker.settings import Settings, WrongSettings
from worker.stores.allowance import OPERATOR
from worker.stores.seeding import Progress, TooFresh

WHY = "seed"
_SAID_EVERY = 10_000  # users, where there is no terminal to draw a bar on


def seed_command(
    users: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Only these users, an id a line; - for standard input."),
    ] = None,
    yes: Yes = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Read from Braze what it holds of users whose values we do not know, and send only the rest.

    It says first what that takes, and asks; without a terminal it needs --yes. Sending is paused
    meanwhile. Started again after Ctrl-C or a kill, it goes on where it stopped. Needs a key with
    users.export.ids. Exits 1 if Braze does not let it read on.
    """
    if users == "-" and not yes:
        raise typer.BadParameter("standard input holds the users; give --yes", param_hint="--yes")
    settings = Settings.load()
    base_url = _base_url(settings)
    with opened(settings) as deployment:
        listed = _listed(users) if users is not None else None
        reading = ReadBack(
            base_url,
            settings.api_key,
            connect=settings.braze_connect_timeout,
            total=_answer_within(settings),
            proxy=settings.braze_proxy,
        )
        with closing(reading):
            _Seed(deployment, reading, listed, this_operator(by)).run(yes, as_json)


class _Seed:
    """One run of the command."""

    def __init__(
        self,
        deployment: Deployment,
        reading: ReadBack,
        users: Sequence[str] | None,
        by: str,
    ) -> None:
        settings, stores = deployment.settings, deployment.stores
        self._deployment = deployment
        self._settings = settings
        self._place = urlsplit(_base_url(settings)).netloc
        self._stores = stores
        self._users = users
        self._by = by
        self._partitions = deployment.partitions
        self._show: Callable[[Progress, str], None] = lambda progress, waiting: None
        per_minute = settings.braze_exports_per_minute
        self._seeder = Seeder(
            stores.seeding,
            reading.export_ids,
            Pace(per_minute, time.monotonic, time.sleep),
            Terms(
                partitions=deployment.partitions,
                ids_per_request=settings.braze_ids_per_export,
                per_minute=per_minute,
                lag=settings.braze_export_lag,
            ),
            stores.allowance.now_ms,
            random.random,
            lambda progress, waiting: self._show(progress, waiting),
        )

    def run(self, yes: bool, as_json: bool) -> None:
        """Estimate, ask, pause, read, resume, and say what was done."""
        started = time.monotonic()
        estimate = self._seeder.estimate(self._users)
        source = "all" if self._users is None else "some"
        before = self._stores.seeding.unfinished(self._partitions, source)
        trouble: Refused | None = None
        try:
            if estimate.users:
                _tell(_estimate_said(estimate, before))
                self._tell_of_the_inbox()
                insist("Read them?", yes)
                self._try_access()
                self._pause()
            with _bar(estimate.users + (before.users if before else 0)) as self._show:
                self._seeder.run(self._users, go_on=True)
            self._deployment.operators.note(self._by, "seed", _said(self._seeder.done))
            self._resume()
        except Stuck as stuck:
            said = f"{self._settings.named_as_set(str(stuck))} {self._left()}"
            trouble = Refused(1, "stuck", said)
        except UnusableKey as error:
            said = f"{self._settings.named_as_set(str(error))}. {self._left()}"
            trouble = Refused(2, "unusable_key", said)
        except KeyboardInterrupt:
            trouble = Refused(130, "interrupted", f"Interrupted. {self._left()}")
        report = self._report(estimate, before, round(time.monotonic() - started, 3))
        if trouble:
            raise trouble.after({"finished": False, **report})
        if as_json:
            typer.echo(orjson.dumps({"finished": True, **report}).decode())
        else:
            _show_report(report)

    def _try_access(self) -> None:
        """An answer may take long, or not come: who waits is told for what."""
        seconds = _answer_within(self._settings).total_seconds()
        _tell(f"Asking {self._place} whether we may read; an answer takes {seconds:g} s at most.")
        self._show = lambda progress, waiting: _tell(f"Waiting: {waiting}") if waiting else None
        self._seeder.try_access()

    def _tell_of_the_inbox(self) -> None:
        waiting = sum(self._stores.inbox.size(p) for p in range(self._partitions))
        if waiting:
            _tell(
                f"Not applied yet, in the inbox: {many(waiting, 'envelope')}. Users who are only "
                "in those are not known, and not read."
            )

    def _pause(self) -> None:
        """Unless it is stopped already; then that is somebody else's to lift, or ours of before."""
        if self._stores.allowance.destination().stop is None:
            pause(self._deployment, self._by, WHY)

    def _is_ours(self) -> bool:
        found = self._stores.allowance.destination()
        return found.stop == OPERATOR and found.why == WHY

    def _resume(self) -> None:
        if self._is_ours():
            resume(self._deployment, self._by)

    def _left(self) -> str:
        """How things stand when it did not come to its end."""
        if not self._is_ours():
            return "To go on, start it again."
        return (
            "To go on where it stopped, start it again. Sending stays paused until then, so that "
            "nobody who is still to be read is sent; `persona-sync resume` lifts that."
        )

    def _report(
        self, estimate: Estimate, before: Progress | None, seconds: float
    ) -> dict[str, Any]:
        done = asdict(self._seeder.done)
        saved = done.pop("equal")
        return {
            "resumed": before is not None,
            "known": estimate.known,
            **done,
            "data_points_saved": saved,
            "too_fresh": _fresh_shown(estimate.fresh),
            "rate_limited": self._seeder.limited,
            "seconds": seconds,
            "destination": destination_shown(self._stores),
        }


def _base_url(settings: Settings) -> str:
    if not settings.braze_endpoint:
        raise WrongSettings(
            "Set PERSONA_SYNC_BRAZE_ENDPOINT to your Braze instance (such as US-01) or REST URL."
        )
    base_url = rest_url(settings.braze_endpoint)
    settings.api_key()
    return base_url


def _answer_within(settings: Settings) -> timedelta:
    return settings.braze_request_timeout * 3  # 50 whole profiles


def _listed(file: str) -> list[str]:
    """The ids of a file, each once, in order."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        said = f"{file} cannot be read: {error.strerror}"
        raise typer.BadParameter(said, param_hint="--users") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not UTF-8 text", param_hint="--users") from None
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _tell(text: str) -> None:
    for_bars().print(text, soft_wrap=True)


def _estimate_said(estimate: Estimate, before: Progress | None) -> str:
    have = "has" if estimate.users == 1 else "have"
    said = (
        f"{estimate.users:,} of {many(estimate.known, 'user')} {have} values of which nobody knows "
        f"what Braze holds: {many(estimate.values, 'value')}.\n"
        f"To read them takes {many(estimate.requests, 'request')}, {_span(estimate.minutes)} at "
        f"{estimate.per_minute:,} a minute, and may save up to "
        f"{many(estimate.values, 'data point')}.\n"
        "Braze's export lags behind its writes: stop whatever else writes these attributes some "
        "minutes before. Our own sending is paused meanwhile."
    )
    if before is not None:
        done = many(before.users, "user")
        said += f"\nThis goes on with a reading that was interrupted after {done}."
    return said


def _fresh_shown(fresh: TooFresh) -> dict[str, Any]:
    again_at = iso(fresh.from_ms) if fresh.values else None
    return {"users": fresh.users, "values": fresh.values, "again_at": again_at}


def _fresh_said(users: int, values: int, again_at: str) -> str:
    """Of values that are not read, why, and how they could be."""
    were = "was" if values == 1 else "were"
    return (
        f"Not read: {many(values, 'value')} of {many(users, 'user')} {were} sent a short while "
        "ago with an unknown end, and Braze's export may lag behind that "
        "(PERSONA_SYNC_BRAZE_EXPORT_LAG). They are sent again in their turn. To have them read "
        f"instead: `persona-sync pause`, and seed again after {again_at}."
    )


def _span(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes:,.0f} minutes" if minutes < 120 else f"about {minutes / 60:,.1f} hours"


def _said(done: Progress) -> str:
    equal = many(done.equal, "value")
    return f"{many(done.users, 'user')} read: {equal} equal, {done.to_send:,} to be sent"


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Progress, str], None]]:
    """A bar on standard error; without a terminal a line now and then."""
    out = for_bars()
    bars = Bars(
        TextColumn("users read"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[waiting]}", markup=False),
        console=out,
        disable=not out.is_terminal,
    )
    task = bars.add_task("", total=total, waiting="")
    said = 0

    def show(progress: Progress, waiting: str) -> None:
        nonlocal said
        bars.update(task, completed=progress.users, waiting=waiting)
        if waiting:
            out.print(f"Waiting: {waiting}", soft_wrap=True)
        elif not out.is_terminal and progress.users // _SAID_EVERY > said // _SAID_EVERY:
            out.print(f"{progress.users:,} of {total:,} users read", soft_wrap=True)
        said = progress.users

    with bars:
        yield show


def _show_report(report: dict[str, Any]) -> None:
    out = for_people()
    fresh = report["too_fresh"]
    if not report["users"]:
        more = " that can be read yet" if fresh["values"] else ""
        out.print(
            f"Nothing to read: of {many(report['known'], 'user')} there is no value of which "
            f"nobody knows what Braze holds{more}."
        )
    else:
        out.print(
            f"Read {many(report['users'], 'user')} in {many(report['requests'], 'request')}; Braze "
            f"does not know {report['no_profile']:,} of them.\n"
            f"Data points saved: {report['data_points_saved']:,}. Values that differ and are sent: "
            f"{report['to_send']:,}. Sent or settled by us meanwhile: {report['left']:,}."
        )
    if fresh["values"]:
        out.print(_fresh_said(**fresh))
    if report["destination"]["state"] == "paused":
        stands = state_said(**report["destination"])
        out.print(f"Braze is {stands}; `persona-sync resume` lifts that.")
