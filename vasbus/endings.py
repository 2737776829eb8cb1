"""How a command ends: every foreseen failure is one line on standard error and its exit code."""

from __future__ import annotations

import os
import sys

import typer
import zmq
from pydantic import ValidationError

from deploy.cluster import ClusterError, StartStopped, StopForced
from hmc.arguments import BadArgument
from hmc.connection import ConsoleRefused, ConsoleUnreachable
from protocol.codes import ExitCode
from protocol.keys import KeysError
from protocol.message import NAME_RULE
from protocol.system import SettingsError
from vasbus.output import errors


def run(app: typer.Typer) -> None:
    """Run a command and end the process with its exit code."""
    if sys.stdout is None:
        fail(ExitCode.FAILED, "standard output is closed: send it to a file or to /dev/null")
    try:
        app()
    except SettingsError as error:
        fail(ExitCode.SETTINGS, str(error))
    except KeysError as error:
        fail(ExitCode.KEYS, str(error))
    except StartStopped as error:
        fail(ExitCode.STOPPED_AT_ONCE if error.at_once else ExitCode.INTERRUPTED, str(error))
    except StopForced as error:
        fail(ExitCode.STOPPED_AT_ONCE if error.at_once else ExitCode.KILLED, str(error))
    except (ClusterError, ConsoleRefused) as error:
        fail(ExitCode.FAILED, str(error))
    except (ConsoleUnreachable, TimeoutError) as error:
        fail(ExitCode.UNREACHABLE, str(error))
    except zmq.ZMQError as error:
        fail(ExitCode.ADDRESS_IN_USE if error.errno == zmq.EADDRINUSE else ExitCode.FAILED, f"socket: {error}")
    except BadArgument as error:
        fail(ExitCode.USAGE, str(error))
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
