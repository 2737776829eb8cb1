"""What a command is, what it runs on, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TextIO, TypeVar

from typer import BadParameter

from protocol.console_messages import ConfigurationApplied, SystemStatus, WindowRow

NOT_FOUND = 127
"""How a shell's command line ends whose command does not exist."""
AMOUNT_MAX = 0x7FFF_FFFF
"""The largest amount that a request of the console carries: 32 bits with a sign."""
WAIT_MINUTES_MAX = 0xFFFF_FFFF // 60_000
"""The longest wait that a request of the console carries, in whole minutes: 32 bits of milliseconds."""


class Console(Protocol):
    """What commands need of a management console (hmc.connection.Console). All raise ConsoleRefused."""

    def system(self) -> SystemStatus: ...

    def windows(self, lpar: str | None = None) -> Iterator[WindowRow]: ...

    def change_processors(self, lpar: str, cores: int, wait_s: float) -> ConfigurationApplied: ...

    def set_entitlement(self, lpar: str, hundredths: int, wait_s: float) -> ConfigurationApplied: ...

    def set_qos_credits(self, lpar: str, credits: int, wait_s: float) -> ConfigurationApplied: ...

    def migrate(self, lpar: str, hold_s: float, wait_s: float) -> ConfigurationApplied: ...


class Files(Protocol):
    """The files of a partition (lpar.client.Lpar). Both raise KernelFailure."""

    def read(self, path: str) -> str: ...

    def write(self, path: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class OnPartition:
    """Where a partition's command runs. `console` carries what the real command would ask of firmware."""

    name: str
    files: Files
    console: Console
    out: TextIO
    err: TextIO


@dataclass(frozen=True, slots=True)
class OnConsole:
    """Where a command of the management console runs."""

    console: Console
    out: TextIO
    err: TextIO


Place = TypeVar("Place", OnPartition, OnConsole)


@dataclass(frozen=True, slots=True)
class Program(Generic[Place]):
    """One command: `run` gets its words without its name, writes to the place's streams, and gives the exit code."""

    synopsis: str
    run: Callable[[Place, Sequence[str]], int]


def execute(programs: Mapping[str, Program[Place]], place: Place, words: Sequence[str]) -> int:
    """Run a command line by the table; the exit code, 127 where there is no such command."""
    name, arguments = words[0], words[1:]
    program = programs.get(name)
    if program is None:
        known = "\n".join(f"  {each} {other.synopsis}" for each, other in sorted(programs.items()))
        place.err.write(f"{name}: command not found; there are\n{known}\n")
        return NOT_FOUND
    return program.run(place, arguments) & 0xFF


def command_line(words: Sequence[str]) -> list[str]:
    """The words of a command after the name of where it runs: a `--` between the two is left out.

    Raises typer.BadParameter where nothing is left, or an option that stands where a command's name should.
    """
    line = list(words[1:] if words[0] == "--" else words)
    if not line:
        raise BadParameter("expected a command after `--`, came none", param_hint="COMMAND...")
    if words[0].startswith("-") and words[0] != "--":
        text = f"expected a command, came the option {words[0]!r:.60}: options stand before `--`, the command behind it"
        raise BadParameter(text, param_hint="COMMAND...")
    return line


def help_text(where: str, programs: Mapping[str, Program[Place]]) -> str:
    """What `exec --help` says: all commands of the table."""
    return f"Run a command as {where}: {', '.join(sorted(programs))}. Ends with the command's exit code."
