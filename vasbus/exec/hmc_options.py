"""Command lines of the management console: flags, the system and partition they name, and how it says no."""

from __future__ import annotations

import getopt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hmc.connection import CHANGE_WAIT_S, ConsoleRefused
from protocol.console_messages import LparStatus, SystemStatus
from vasbus.exec.program import AMOUNT_MAX, WAIT_MINUTES_MAX, OnConsole

FAILED = 1
"""How every command of the console ends that did not do what it was told to."""
SECONDS_PER_MINUTE = 60
DIGITS = re.compile(r"0*[0-9]{1,12}")
"""A number without a sign; what has more digits is above every bound, and not computed."""


class HmcError(Exception):
    """What the console prints on standard error, with its message number where that is public."""


@dataclass(frozen=True, slots=True)
class Flags:
    """The options of a command line by name without dashes; those without a value have an empty one."""

    command: str
    values: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def need(self, name: str, what: str) -> str:
        """The value of an option that must be there. Raises HmcError."""
        if name not in self.values:
            raise HmcError(f"{self.command}: the option {dashed(name)} is missing: {what}")
        return self.values[name]

    def choose(self, name: str, choices: Sequence[str], what: str) -> str:
        """The value of an option that must be one of these. Raises HmcError."""
        value = self.need(name, what)
        if value not in choices:
            raise HmcError(f"{self.command}: {dashed(name)} takes {' or '.join(choices)}, came {value!r}")
        return value

    def number(self, name: str, what: str, least: int = 1, most: int = AMOUNT_MAX) -> int:
        """A whole number within bounds. Raises HmcError."""
        value = self.need(name, what)
        number = int(value) if DIGITS.fullmatch(value) else -1
        if not least <= number <= most:
            raise HmcError(
                f"{self.command}: {dashed(name)} takes a whole number of {least} to {most}, came {value!r:.60}"
            )
        return number

    @property
    def wait_s(self) -> float:
        """How long to wait for the partition; -w is in minutes, 0 means as long as usual. Raises HmcError."""
        minutes = self.number("w", "minutes to wait", least=0, most=WAIT_MINUTES_MAX) if "w" in self else 0
        return minutes * SECONDS_PER_MINUTE or CHANGE_WAIT_S

    def only(self, *names: str) -> None:
        """Refuse options that mean nothing here. Raises HmcError."""
        strange = sorted(self.values.keys() - set(names))
        if strange:
            raise HmcError(f"{self.command}: {dashed(strange[0])} does not go with these options")


def dashed(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


def parse(command: str, words: Sequence[str], short: str, long: Sequence[str]) -> Flags:
    """Read a command line by getopt's descriptions of its flags. Raises HmcError."""
    try:
        pairs, rest = getopt.gnu_getopt(list(words), short, list(long))
    except getopt.GetoptError as error:
        raise HmcError(f"{command}: {error.msg}") from None
    if rest:
        raise HmcError(f"{command}: expected options only, came {rest[0]!r}")
    return Flags(command, {flag.lstrip("-"): value for flag, value in pairs})


def run(place: OnConsole, usage: str, work: Callable[[], None]) -> int:
    """Do what a command does; the exit code."""
    try:
        work()
    except HmcError as error:
        place.err.write(f"{error}\n{'' if str(error).startswith('HSC') else usage}")
        return FAILED
    except ConsoleRefused as refused:
        place.err.write(f"{said(refused)}\n")
        return FAILED
    return 0


def said(refused: ConsoleRefused) -> str:
    """A refusal in the console's form: its number first, where it has one."""
    failure = refused.failure
    code = f"{failure.code} " if failure.code.startswith("HSC") else ""
    return f"{code}{failure.text}; {failure.advice}" if failure.advice else f"{code}{failure.text}"


def managed_system(place: OnConsole, flags: Flags) -> SystemStatus:
    """The system that -m names. Raises HmcError: the console manages the one system of the file."""
    name = flags.need("m", "the managed system")
    status = place.console.system()
    if name != status.system:
        raise HmcError(f"HSCL8018 The managed system {name} was not found: this console manages {status.system}")
    return status


def partition(status: SystemStatus, name: str) -> LparStatus:
    """The partition of this name. Raises HmcError."""
    for lpar in status.lpars:
        if lpar.name == name:
            return lpar
    names = ", ".join(lpar.name for lpar in status.lpars)
    raise HmcError(f"HSCL8012 The partition {name} was not found: {status.system} has {names}")


def require_accelerators(status: SystemStatus) -> None:
    """Raises HmcError where the system has no accelerators for partitions."""
    if not status.accelerators:
        raise HmcError(f"HSCLC014 {status.system} has no hardware accelerators that partitions can use")
