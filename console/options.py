"""What commands have alike: the options of several, spelled and said once; how they are set up."""

from typing import Annotated, Any

import typer

Key = Annotated[str, typer.Argument(metavar="KEY", help="The audience's, or the trait's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who does this; without it LOGIN@MACHINE."),
]
Why = Annotated[
    str,
    typer.Option(
        "--why", metavar="TEXT", help="The reason, for whoever looks: in `status`, in the journal."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Watch until all is sent; Ctrl-C stops the watching only."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def plain_typer(**options: Any) -> typer.Typer:
    """No markup, so that what a user typed is shown as it is; no tracebacks with values."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )
