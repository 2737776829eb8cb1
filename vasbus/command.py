"""The `vasbus` command. Exit codes are those of protocol.codes.ExitCode, on every subcommand."""

from __future__ import annotations

import os
import sys

import typer
import zmq
from pydantic import ValidationError

from deploy.cluster import ClusterError
from hmc.connection import ConsoleRefused, ConsoleUnreachable
from protocol.codes import ExitCode
from protocol.message import NAME_RULE
from protocol.system import SettingsError
from vasbus import (
    cluster_commands,
    demo_command,
    gzip_command,
    hmc_commands,
    lpar_commands,
    metrics_command,
    schema_command,
    serve_commands,
)
from vasbus.output import errors
from vasbus.top import command as top_command

EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."

app = typer.Typer(
    name="vasbus",
    help="PowerVM accelerator credits (VAS windows, NX gzip) as real processes on a message bus.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cluster_commands.register(app)
metrics_command.register(app)
demo_command.register(app)
gzip_command.register(app)
top_command.register(app)
schema_command.register(app)
app.add_typer(serve_commands.app, name="serve")
app.add_typer(hmc_commands.app, name="hmc")
app.add_typer(lpar_commands.app, name="lpar")


def main() -> None:
    """Run the command; every foreseen failure is one line on standard error and its exit code."""
    if sys.stdout is None:
        fail(ExitCode.FAILED, "standard output is closed: send it to a file or to /dev/null")
    try:
        app()
    except SettingsError as error:
        fail(ExitCode.SETTINGS, str(error))
    except (ClusterError, ConsoleRefused) as error:
        fail(ExitCode.FAILED, str(error))
    except (ConsoleUnreachable, TimeoutError) as error:
        fail(ExitCode.UNREACHABLE, str(error))
    except zmq.ZMQError as error:
        fail(ExitCode.ADDRESS_IN_USE if error.errno == zmq.EADDRINUSE else ExitCode.FAILED, f"socket: {error}")
    except (ValidationError, UnicodeError) as error:
        fail(ExitCode.USAGE, _first_complaint(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail(ExitCode.FAILED, str(error))


def _first_complaint(error: ValidationError | UnicodeError) -> str:
    """What of the command line does not fit into a message."""
    if isinstance(error, UnicodeError):
        return f"not text: {error}"
    complaint = error.errors(include_url=False)[0]
    expected = f"expected {NAME_RULE}" if complaint["type"] == "string_pattern_mismatch" else complaint["msg"]
    return f"{complaint['loc'][-1]}: {expected} (came: {complaint['input']!r:.60})"


def fail(code: ExitCode, text: str) -> None:
    """Say why and end."""
    errors.print(f"vasbus: {text}", style="red", highlight=False, markup=False)
    sys.exit(int(code))
