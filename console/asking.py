"""The question before something that cannot be taken back, or costs money."""

import sys

import typer


def asked(question: str, yes: bool) -> bool:
    """True if it is to be done. Without a terminal nobody is asked, and False comes back: for a
    command that has said by then what it would do.

    Raises click's Abort for a no.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return typer.confirm(question, abort=True, err=True)


def insist(question: str, yes: bool) -> None:
    """Return if it is to be done. Without a terminal only `--yes` says so: anything else is wrong
    use. Raises click's Abort for a no."""
    if not asked(question, yes):
        raise typer.BadParameter("nobody is there to be asked; give --yes", param_hint="--yes")
