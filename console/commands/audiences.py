"""`persona-sync audiences`: what is declared and in which lane; what operators order of a key."""

from console.commands.audience_explaining import explain_command
from console.commands.audience_importing import import_command
from console.commands.audience_life import disable_command, enable_command, retire_command
from console.commands.audience_listing import list_command
from console.commands.audience_validating import validate_command
from console.options import plain_typer

app = plain_typer(
    help="See which audiences are realtime, which batched, and why; take them over from Segment; "
    "disable or retire one.",
    no_args_is_help=True,
)
app.command("validate")(validate_command)
app.command("list")(list_command)
app.command("explain")(explain_command)
app.command("import")(import_command)
app.command("disable")(disable_command)
app.command("enable")(enable_command)
app.command("retire")(retire_command)
