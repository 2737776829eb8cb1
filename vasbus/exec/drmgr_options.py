"""The command line of drmgr. Source: PU:src/drmgr/drmgr.c (domain.md 6)."""

from __future__ import annotations

import getopt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from vasbus.exec.program import AMOUNT_MAX, WAIT_MINUTES_MAX

FLAGS = "ac:d:Iimnp:P:Qq:Rrs:w:t:hCVH"
LONG_FLAGS = ["capabilities", "help"]
ACTIONS = {"-a": "add", "-r": "remove", "-i": "identify", "-R": "replace", "-Q": "query", "-m": "migrate"}
SECONDS_PER_MINUTE = 60
NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")
"""What strtoul takes with base 0: a sign, and digits in hexadecimal, octal or decimal."""
DECIMAL = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)")
"""What strtol takes with base 10."""
DIGITS_READ = 40
"""More digits than any number within the bounds has; what has more is out of bounds, and not computed."""

USAGE = "Usage: drmgr [-w minutes] [-d detail_level] [-C | --capabilities] [-h | --help]\n"
CONNECTOR_USAGE = {
    "": "{-c {cpu | acc}}\nFor the options of a connector type: drmgr -c <type> -h\n",
    "cpu": "-c cpu {-a | -r} -q <quantity> [-p ent_capacity]\n",
    "acc": "-c acc -t <accelType> -q <QoS_credit_count>\n",
}


class BadOption(Exception):
    """The command line cannot be read; the text says why."""


@dataclass(slots=True)
class Options:
    """What was asked for. `quantity` is 0 where none was given, `wait_s` 0 where drmgr is to wait as long as usual."""

    connector: str = ""
    actions: list[str] = field(default_factory=list)
    quantity: int = 0
    parameter: str = ""
    connector_name: str = ""
    accelerator: str = ""
    wait_s: int = 0
    detail: int = 1
    help: bool = False
    capabilities: bool = False

    @property
    def action(self) -> str:
        """The action given last, as drmgr takes it."""
        return self.actions[-1] if self.actions else ""

    @property
    def usage(self) -> str:
        """How to use drmgr, for the connector type where it is known."""
        return USAGE + CONNECTOR_USAGE.get(self.connector, CONNECTOR_USAGE[""])


def parse(words: Sequence[str]) -> Options:
    """Read a command line. Raises BadOption."""
    try:
        pairs, _rest = getopt.gnu_getopt(list(words), FLAGS, LONG_FLAGS)
    except getopt.GetoptError as error:
        raise BadOption(f"Invalid option specified '{error.opt}'") from None
    options = Options(help=not pairs)
    for flag, value in pairs:
        _take(options, flag, value)
    return options


def _take(options: Options, flag: str, value: str) -> None:
    if flag in ACTIONS:
        options.actions.append(ACTIONS[flag])
    elif flag == "-c":
        options.connector = value
    elif flag == "-q":
        options.quantity = number(flag, value)
    elif flag == "-p":
        options.parameter = value
    elif flag == "-s":
        options.connector_name = value
    elif flag == "-t":
        options.accelerator = value
    elif flag == "-w":
        minutes = decimal(flag, value)
        if minutes < 0:
            raise BadOption(f"Invalid timeout specified: {minutes}")
        if minutes > WAIT_MINUTES_MAX:
            raise BadOption(f"Invalid timeout specified: {minutes}; {WAIT_MINUTES_MAX} minutes at most")
        options.wait_s = minutes * SECONDS_PER_MINUTE
    elif flag == "-d":
        options.detail = decimal(flag, value)
    elif flag in ("-h", "--help"):
        options.help = True
    elif flag in ("-C", "--capabilities"):
        options.capabilities = True


def number(flag: str, text: str) -> int:
    """A number as C's strtoul takes it with base 0. Raises BadOption where there is none, or something after it."""
    match = NUMBER.fullmatch(text)
    if match is None:
        raise BadOption(f"{flag} takes a number, came {text!r:.60}")
    sign, hexadecimal, octal, decimals = match.groups()
    if hexadecimal is not None:
        return bounded(flag, text, sign, hexadecimal, 16)
    return bounded(flag, text, sign, decimals or octal, 10 if decimals else 8)


def decimal(flag: str, text: str) -> int:
    """A number as C's strtol takes it with base 10. Raises BadOption likewise."""
    match = DECIMAL.fullmatch(text)
    if match is None:
        raise BadOption(f"{flag} takes a decimal number, came {text!r:.60}")
    return bounded(flag, text, match[1], match[2], 10)


def bounded(flag: str, text: str, sign: str, digits: str, base: int) -> int:
    """The number, which has to be one that a message to the console can carry. Raises BadOption."""
    significant = digits.lstrip("0") or "0"
    size = int(significant, base) if len(significant) <= DIGITS_READ else AMOUNT_MAX + 1
    if size > AMOUNT_MAX:
        raise BadOption(f"{flag} takes a number of -{AMOUNT_MAX} to {AMOUNT_MAX}, came {text!r:.60}")
    return -size if sign == "-" else size
