"""chhwres: change a partition's processors or QoS credits. Source: OPT, PC-CHACCEL (domain.md 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from protocol.system import HUNDREDTHS_PER_CORE, ProcessorMode
from vasbus.exec.hmc_options import Flags, HmcError, managed_system, parse, partition, require_accelerators, run
from vasbus.exec.program import OnConsole

USAGE = """\
Usage: chhwres -r accel -m <system> --rsubtype gzip -o s -p <partition> -q <credits> [-w <minutes>]
       chhwres -r proc -m <system> -o {a | r} -p <partition> {--procs <cores> | --procunits <units>} [-w <minutes>]
"""
UNITS = re.compile(r"([0-9]{1,7})(?:\.([0-9]{1,2}))?|\.([0-9]{1,2})")
"""Processing units have at most two decimals; seven digits before them are more than any system has."""
COMMON = ("r", "m", "o", "p", "w", "d", "force")


def chhwres(place: OnConsole, words: Sequence[str]) -> int:
    """0, or 1 with the reason."""
    return run(place, USAGE, lambda: change(place, words))


def change(place: OnConsole, words: Sequence[str]) -> None:
    """Carry a command line out. Raises HmcError, ConsoleRefused."""
    long = ("rsubtype=", "procs=", "procunits=", "force", "help")
    flags = parse("chhwres", words, "r:m:o:p:q:w:d:", long)
    if "help" in flags:
        place.out.write(USAGE)
    elif flags.choose("r", ("accel", "proc"), "the resource: accel or proc") == "accel":
        set_credits(place, flags)
    else:
        change_processors(place, flags)


def set_credits(place: OnConsole, flags: Flags) -> None:
    """-r accel: the number is absolute."""
    flags.only(*COMMON, "q", "rsubtype")
    flags.choose("rsubtype", ("gzip",), "the accelerator type: gzip")
    flags.choose("o", ("s",), "the operation: s sets the credits")
    status = managed_system(place, flags)
    lpar = partition(status, flags.need("p", "the partition"))
    require_accelerators(status)
    place.console.set_qos_credits(lpar.name, flags.number("q", "QoS credits, absolute", least=0), flags.wait_s)


def change_processors(place: OnConsole, flags: Flags) -> None:
    """-r proc: the amount is relative, cores of a dedicated partition or processing units of a shared one."""
    flags.only(*COMMON, "procs", "procunits")
    operation = flags.choose("o", ("a", "r"), "the operation: a adds, r removes")
    sign = 1 if operation == "a" else -1
    status = managed_system(place, flags)
    lpar = partition(status, flags.need("p", "the partition"))
    if ("procs" in flags) == ("procunits" in flags):
        raise HmcError("chhwres: expected --procs or --procunits, came both or none")
    dedicated = lpar.mode == ProcessorMode.DEDICATED
    if "procs" in flags:
        if not dedicated:
            text = f"{lpar.name} uses shared processors; virtual processors are not modelled"
            raise HmcError(f"chhwres: {text}, and credits do not follow them: use --procunits")
        place.console.change_processors(lpar.name, sign * flags.number("procs", "cores"), flags.wait_s)
    else:
        if dedicated:
            raise HmcError(f"chhwres: {lpar.name} uses dedicated processors: use --procs")
        wanted = lpar.hundredths + sign * hundredths(flags.need("procunits", "processing units"))
        place.console.set_entitlement(lpar.name, wanted, flags.wait_s)


def hundredths(text: str) -> int:
    """Processing units in hundredths: `0.4` is 40. Raises HmcError."""
    match = UNITS.fullmatch(text)
    amount = 0
    if match is not None:
        whole, decimals, only_decimals = match.groups(default="")
        amount = int(whole or "0") * HUNDREDTHS_PER_CORE + int((decimals or only_decimals).ljust(2, "0"))
    if amount == 0:
        raise HmcError(f"chhwres: --procunits takes a number such as 0.4, of at most two decimals, came {text!r:.60}")
    return amount
