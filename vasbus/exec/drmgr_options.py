"""The command line of drmgr. Source: PU:src/drmgr/drmgr.c (domain.md 6)."""

from __future__ import annotations

import getopt
from collections.abc import Sequence
from dataclasses import dataclass, field

FLAGS = "ac:d:Iimnp:P:Qq:Rrs:w:t:hCVH"
LONG_FLAGS = ["capabilities", "help"]
ACTIONS = {"-a": "add", "-r": "remove", "-i": "identify", "-R": "replace", "-Q": "query", "-m": "migrate"}
SECONDS_PER_MINUTE = 60

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
        options.wait_s = number(flag, value) * SECONDS_PER_MINUTE
        if options.wait_s < 0:
            raise BadOption(f"Invalid timeout specified: {value}")
    elif flag == "-d":
        options.detail = number(flag, value)
    elif flag in ("-h", "--help"):
        options.help = True
    elif flag in ("-C", "--capabilities"):
        options.capabilities = True


def number(flag: str, text: str) -> int:
    """A number as C's strtoul takes it with base 0. Raises BadOption where there is none, or something after it."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    octal = len(digits) > 1 and digits.startswith("0") and digits.isdecimal()
    try:
        return sign * (int(digits, 8) if octal else int(digits, 0))
    except ValueError:
        raise BadOption(f"{flag} takes a number, came {text!r}") from None
