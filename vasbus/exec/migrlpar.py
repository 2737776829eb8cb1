"""migrlpar: migrate a partition, or only look whether that is possible. There is one system, so -t is -m."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.console_messages import LparStatus
from vasbus.exec.hmc_options import Flags, HmcError, managed_system, parse, partition, run
from vasbus.exec.program import OnConsole

USAGE = "Usage: migrlpar -o {m | v} -m <system> -t <system> -p <partition> [-w <minutes>]\n"
OPERATIONS = ("m", "v", "r", "s", "set")


def migrlpar(place: OnConsole, words: Sequence[str]) -> int:
    """0, or 1 with the reason."""
    return run(place, USAGE, lambda: migrate(place, words))


def migrate(place: OnConsole, words: Sequence[str]) -> None:
    """Carry a command line out. Raises HmcError, ConsoleRefused."""
    flags = parse("migrlpar", words, "o:m:t:p:w:d:", ("help",))
    if "help" in flags:
        place.out.write(USAGE)
        return
    operation = flags.choose("o", OPERATIONS, "the operation: m migrates, v validates")
    if operation in ("r", "s", "set"):
        text = "a migration here ends by itself, moved or given up when its wait is over"
        raise HmcError(f"migrlpar: -o {operation} has nothing to do: {text}")
    lpar = validated(place, flags)
    if operation == "m":
        place.console.migrate(lpar.name, 0.0, flags.wait_s)


def validated(place: OnConsole, flags: Flags) -> LparStatus:
    """The partition, if it can be migrated: the console validates before it migrates too. Raises HmcError."""
    status = managed_system(place, flags)
    target = flags.need("t", "the system to migrate to")
    if target != status.system:
        raise HmcError(
            f"migrlpar: the target system {target} was not found: {status.system} is the only system, so -t names it"
        )
    lpar = partition(status, flags.need("p", "the partition"))
    if lpar.state == "not_activated":
        raise HmcError(f"migrlpar: {lpar.name} is not running; only a running partition is migrated: start it first")
    return lpar
