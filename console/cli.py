"""The command `persona-sync`: finds the subcommand, and says in a sentence what went wrong.

A subcommand's module is imported when it is called, so that the others cost it nothing.
"""

import json
import re
import sys
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from redis.exceptions import ResponseError

    from worker.settings import NothingRunning


class _Subcommand(NamedTuple):
    place: str  # module:function, or module:app for a group of commands
    help: str


SUBCOMMANDS = {
    "demo": _Subcommand(
        "console.commands.demo:demo_command",
        "Sync example data to a pretended Braze here, and check it.",
    ),
    "up": _Subcommand(
        "console.commands.up:up_command",
        "Run everything on this machine: server, HTTP producer, workers, beat.",
    ),
    "send": _Subcommand(
        "console.commands.sending:send_command",
        "Send one change.",
    ),
    "import": _Subcommand(
        "console.commands.importing:import_command",
        "Take in a file of Segment messages.",
    ),
    "status": _Subcommand(
        "console.commands.status:status_command",
        "Say what waits, what was delivered, and how the destination is.",
    ),
    "trace": _Subcommand(
        "console.commands.trace:trace_command",
        "Say where one user is: wanted, delivered, when next.",
    ),
    "forget": _Subcommand(
        "console.commands.forgetting:forget_command",
        "Delete a user, and skip later changes.",
    ),
    "seed": _Subcommand(
        "console.commands.seeding:seed_command",
        "Read from Braze what it holds already, and send only the rest.",
    ),
    "check": _Subcommand(
        "console.commands.checking:check_command",
        "Look at settings, server, Braze and workers; say what to do about what is wrong.",
    ),
    "pause": _Subcommand(
        "console.commands.pausing:pause_command",
        "Send nothing to Braze until `resume`.",
    ),
    "resume": _Subcommand(
        "console.commands.pausing:resume_command",
        "Lift a pause, the valve, or a stop for refused credentials.",
    ),
    "flush": _Subcommand(
        "console.commands.flushing:flush_command",
        "Bring one audience up to date now, before a campaign.",
    ),
    "resync": _Subcommand(
        "console.commands.resyncing:resync_command",
        "Send what Braze is believed to hold once more; says first what that costs.",
    ),
    "audiences": _Subcommand(
        "console.commands.audiences:app",
        "See which audiences are realtime, which batched, and why; disable or retire one.",
    ),
    "dead-letters": _Subcommand(
        "console.commands.dead_letters:app",
        "See what Braze refused for good; replay, drop or export it.",
    ),
}


# The base of all wrong use, which typer does not export.
_USAGE_ERROR: Any = typer.BadParameter.__base__


class _Lazy(TyperGroup):
    """Lists subcommands without importing them; imports the one that is called."""

    def __init__(self, **given: Any) -> None:
        stand_ins = {name: TyperCommand(name, help=it.help) for name, it in SUBCOMMANDS.items()}
        super().__init__(**{**given, "commands": stand_ins})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command. A name that is none fails as usual, with what was perhaps meant."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(str(name), SUBCOMMANDS[str(name)]), rest

    def invoke(self, ctx: Any) -> Any:
        """Run it. What it was given wrongly is said in words of ours, not of a library; with
        --json by a document, too."""
        wants_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except _USAGE_ERROR as error:
            if isinstance(error, typer.BadParameter):
                error.message = in_plain_words(error.message)
            if wants_json:
                print(_error_document("wrong_use", error.format_message()))
            raise


def _load(name: str, subcommand: _Subcommand) -> Any:
    module, _, attribute = subcommand.place.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = _plain_typer()
        single.command(name)(found)
        found = single
    return get_command(found)


def in_plain_words(message: str) -> str:
    """What an option's value should have been."""
    if "valid integer" in message:
        return "it must be a whole number."
    if "valid number" in message:
        return "it must be a number."
    if found := _BOUND.match(message):
        return f"it must be at {'least' if found['least'] else 'most'} {found['bound']}."
    return message.removeprefix("Value error, ")


_BOUND = re.compile(
    r"Input should be (?:(?P<least>greater)|less) than or equal to (?P<bound>[\d.]+)"
)


def _plain_typer(**options: Any) -> typer.Typer:
    """No markup, so that what a user typed is shown as it is; no tracebacks with values."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


app = _plain_typer(cls=_Lazy, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            number = metadata.version("persona-sync")
        except metadata.PackageNotFoundError:
            number = "(not installed)"
        print(f"persona-sync {number}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Keep Braze profiles in step with Segment audiences."""


def main() -> None:
    """Run the command. Exits 0: fine, 1: the answer is bad news, 2: wrong use or settings."""
    if any(_is_no_text(argument) for argument in sys.argv[1:]):
        print("An argument is not UTF-8; user ids and keys are.", file=sys.stderr)
        sys.exit(2)
    try:
        app()
    except Exception as error:
        trouble = expected_trouble(error)
        if trouble is None:
            raise
        code, sentence = trouble
        if "--json" in sys.argv:
            print(_error_document("wrong_use" if code == 2 else "trouble", sentence))
        print(sentence, file=sys.stderr)
        sys.exit(code)


def _error_document(code: str, reason: str) -> str:
    return json.dumps({"error": {"code": code, "reason": reason}})


def _is_no_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False


def expected_trouble(error: Exception) -> tuple[int, str] | None:
    """Exit code and sentence for trouble that a user can mend; None for a defect of ours."""
    if any(_is_a(error, kind) for kind in _WRONG_USE):
        return 2, str(error)
    if _is_a(error, "worker.settings:NothingRunning"):
        from console.up_lock import nothing_running_said

        return 1, nothing_running_said(cast("NothingRunning", error))
    if any(_is_a(error, kind) for kind in _BAD_NEWS):
        return 1, str(error)
    if _is_a(error, "redis.exceptions:ResponseError"):
        from console.checks.refusals import refusal_said

        said = refusal_said(cast("ResponseError", error))
        if said is not None:
            return 1, said
    for kind in _SERVER_TROUBLE:
        if _is_a(error, kind):
            from console.paper import without_login

            return 1, (
                f"The Redis server does not answer as it should: {without_login(str(error))}. "
                "See that it runs and that PERSONA_SYNC_REDIS_URL, or PERSONA_SYNC_DATA_DIR for "
                "the embedded one, is right."
            )
    return None


# The messages of these are written for the user.
_WRONG_USE = (
    "worker.settings:WrongSettings",
    "worker.braze.instances:UnknownInstance",
    "worker.audiences.registry:WrongRegistry",
)
_BAD_NEWS = (
    "worker.stored:UnfitServer",
    "console.local_server:ServerFailed",
    "worker.stores.publication:RetiredKey",
    "worker.stores.publication:ChangedMeanwhile",
)
_SERVER_TROUBLE = (
    "redis.exceptions:ConnectionError",  # refused logins and loading servers are among these
    "redis.exceptions:TimeoutError",
    "kombu.exceptions:OperationalError",
)


def _is_a(error: Exception, place: str) -> bool:
    """Is it of that class? A module that was never imported has raised nothing."""
    module, _, name = place.partition(":")
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(error, kind)


if __name__ == "__main__":
    main()
