"""`vasbus health` as a program of its own: it imports what one check needs, and no more."""

from __future__ import annotations

import getopt
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vasbus.health.checks import ROLES, health
from vasbus.health.failure import Unhealthy
from vasbus.health.keys import BadKeys, Credentials, read_keys

HMC_VARIABLE, KEYS_VARIABLE = "VASBUS_HMC", "VASBUS_KEYS"
TIMEOUT_S, TIMEOUT_MOST_S = 3.0, 3600.0
USAGE = """\
Usage: vasbus health hypervisor --hmc ENDPOINT [--keys PATH] [--timeout SECONDS]
       vasbus health lpar ENDPOINT [--keys PATH] [--timeout SECONDS]
       vasbus health nxunit ENDPOINT [--keys PATH] [--timeout SECONDS]

One round trip to a process: exit code 0 and one line when it is healthy, else another code and why not.
The keys are for tcp: of observer or hmc for a hypervisor, of a client for a partition, an NX unit's own.
VASBUS_HMC and VASBUS_KEYS stand for --hmc and --keys. The timeout is 3 seconds unless it is given.
"""
SWITCHES = ("help", "hmc=", "keys=", "timeout=")


class BadUsage(Exception):
    """The command line is wrong."""


def main(words: Sequence[str]) -> int:
    """Check the process that the words name; the exit code."""
    try:
        asked = _parse(words)
        if asked is None:
            sys.stdout.write(USAGE)
            return 0
        role, endpoint, keys, wait_s = asked
        text = health(role, endpoint, _credentials(role, endpoint, keys), wait_s)
    except (BadUsage, BadKeys, Unhealthy) as failure:
        return _fail(failure)
    sys.stdout.write(f"healthy: {text}\n")
    return 0


def _fail(failure: Exception) -> int:
    """Say why, in one line; the exit code."""
    from protocol.codes import ExitCode

    if isinstance(failure, BadUsage):
        code, text = ExitCode.USAGE, f"{failure}; `vasbus health --help` shows how"
    elif isinstance(failure, BadKeys):
        code, text = ExitCode.KEYS, f"unhealthy: {failure}"
    else:
        silent = isinstance(failure, Unhealthy) and failure.silent
        code, text = ExitCode.UNREACHABLE if silent else ExitCode.FAILED, f"unhealthy: {failure}"
    sys.stderr.write(f"vasbus: {text}\n")
    return int(code)


def _parse(words: Sequence[str]) -> tuple[str, str, str, float] | None:
    """Role, endpoint, key path (empty: none) and seconds; None where help is asked for. Raises BadUsage."""
    try:
        pairs, places = getopt.gnu_getopt(list(words), "", SWITCHES)
    except getopt.GetoptError as error:
        raise BadUsage(str(error)) from None
    options = dict(pairs)
    if "--help" in options:
        return None
    role, *rest = places or [""]
    if role not in ROLES:
        raise BadUsage(f"expected one of {', '.join(ROLES)}, came {role!r}")
    if role == "hypervisor" and not rest:
        rest = [endpoint for endpoint in [options.get("--hmc", os.environ.get(HMC_VARIABLE, ""))] if endpoint]
    elif "--hmc" in options:
        raise BadUsage("--hmc is for the hypervisor alone; expected the endpoint as it is")
    if len(rest) != 1 or not rest[0].startswith(("tcp://", "ipc://")):
        raise BadUsage(f"expected one endpoint, tcp://host:port or ipc:///path, came {' '.join(rest) or 'none'}")
    keys = options.get("--keys", os.environ.get(KEYS_VARIABLE, ""))
    return role, rest[0], keys, _seconds(options.get("--timeout", str(TIMEOUT_S)))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= TIMEOUT_MOST_S:
        raise BadUsage(f"expected a timeout of at most {TIMEOUT_MOST_S:g} seconds, came {text!r}")
    return seconds


def _credentials(role: str, endpoint: str, keys: str) -> Credentials | None:
    """The keys for a tcp endpoint; None where there are none, or none are needed. Raises BadKeys."""
    if not keys or not endpoint.startswith("tcp://"):
        return None
    asked = ROLES[role]
    try:
        return read_keys(Path(keys)).credentials(asked.keys, asked.listeners)
    except BadKeys as failure:
        raise BadKeys(f"{keys}: {failure}") from None
