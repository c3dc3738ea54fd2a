"""The script ``minitron``: one step of compression at a time, on checkpoint directories.

Loads the model framework only inside a command, so that help is instant. Results go to standard output,
progress and errors to standard error.
"""

import sys

import typer

from minitron import extras
from minitron.cli_align import align
from minitron.cli_compress import compress
from minitron.cli_correct import correct
from minitron.cli_distill import distill
from minitron.cli_evaluate import evaluate
from minitron.cli_prune import importance, prune
from minitron.errors import MinitronError

app = typer.Typer(
    name="minitron",
    help="Compress one Hugging Face causal language model: measure importance, prune, distil, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (importance, prune, correct, distill, evaluate, compress, align):
    app.command()(_command)


def main() -> None:
    """Run the script; a user's mistake is one line on standard error and exit code 1."""
    try:
        app()
    except MinitronError as error:
        reason = str(error)
    except ImportError:
        lacking = extras.missing(extras.LIBRARY)
        if not lacking:
            raise
        names = ", ".join(lacking)
        reason = f"this command needs {names}, which this Python lacks: pip install '{extras.EXTRA}'"
    typer.echo(f"error: {reason}", err=True)
    sys.exit(1)
