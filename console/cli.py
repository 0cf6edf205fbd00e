"""The command `persona-sync`: finds the subcommand, and says in a sentence what went wrong.

A subcommand's module is imported when it is called, so that the others cost it nothing.
"""

import json
import re
import sys
from importlib import import_module, metadata
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from console.closed_pipe import survive_closed_pipes
from console.options import plain_typer
from console.refused import Refused
from console.trouble import expected_trouble


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
        "Run everything here: server, workers, beat, HTTP producer.",
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
        "Say what waits, what was delivered, and how Braze is.",
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
        "Read from Braze what it holds, and send only the rest.",
    ),
    "check": _Subcommand(
        "console.commands.checking:check_command",
        "Say what is wrong, and what to do about it.",
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
        "Send values once more; says first what that costs.",
    ),
    "audiences": _Subcommand(
        "console.commands.audiences:app",
        "See which are realtime, and why; disable or retire one.",
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
        """Run it. Why it gives no answer is said on standard error, and with --json by a document
        on standard output, too. What it was given wrongly is said in words of ours."""
        wants_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except Refused as refused:
            _say(refused, wants_json)
            raise typer.Exit(refused.exit_code) from None
        except typer.Abort:
            if wants_json:
                said = "It was not confirmed: nothing is done."
                _print_document(Refused(1, "not_confirmed", said))
            raise
        except _USAGE_ERROR as error:
            if isinstance(error, typer.BadParameter):
                error.message = in_plain_words(error.message)
            if wants_json:
                _print_document(Refused(2, "wrong_use", error.format_message()))
            raise


def _load(name: str, subcommand: _Subcommand) -> Any:
    module, _, attribute = subcommand.place.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = plain_typer()
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


app = plain_typer(cls=_Lazy, no_args_is_help=True)


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
    """Keep Braze profiles in step with Segment audiences.

    To see it work: `persona-sync demo`. Exit codes: 0 fine, 1 bad news, 2 wrong use or wrong
    settings, 130 Ctrl-C. With --json whatever goes wrong is a document, too: `error`, with `code`
    and `reason`.
    """


def main() -> None:
    """Run the command. Exits 0: fine, 1: the answer is bad news, 2: wrong use or settings, 130:
    Ctrl-C."""
    survive_closed_pipes()
    wants_json = "--json" in sys.argv
    if any(_is_no_text(argument) for argument in sys.argv[1:]):
        said = "An argument is not UTF-8; user ids and keys are."
        _say(Refused(2, "wrong_use", said), wants_json)
        sys.exit(2)
    try:
        app()
    except Exception as error:
        trouble = expected_trouble(error)
        if trouble is None:
            raise
        code, sentence = trouble
        _say(Refused(code, "wrong_use" if code == 2 else "trouble", sentence), wants_json)
        sys.exit(code)


def _say(refused: Refused, wants_json: bool) -> None:
    if wants_json:
        _print_document(refused)
    print(refused, file=sys.stderr)


def _print_document(refused: Refused) -> None:
    print(json.dumps(refused.as_json()))


def _is_no_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False


if __name__ == "__main__":
    main()
