"""nxstat: what the accelerator has done for a partition, by unit, window type and window. Source: AIX-NXSTAT.

The columns are AIX's. Here Opens and Faults are counted; bytes are counted for each unit, not for each partition, and
completion is a message, so there are neither interrupts nor polls nor waits to count. Those columns have a dash.
"""

from __future__ import annotations

import getopt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from protocol.codes import CreditType
from vasbus.exec.program import OnPartition

WINDOWS = "/sys/kernel/debug/vasbus/windows"
FAULTS = "/sys/kernel/debug/vasbus/faults"
CREDITS = "/sys/devices/virtual/misc/vas/vas0/gzip/{}_capabilities/{}"
COLUMNS = ("Opens", "Bytes", "Faults", "Intrs", "Polls", "Waits")
LEVELS = {"-A": "Accelerator", "-U": "Unit", "-T": "Type", "-W": "Window"}
USAGE = "Usage: nxstat [-AUTW]\n"
NOT_COUNTED = "-"
USAGE_ERROR = 1


@dataclass(frozen=True, slots=True)
class WindowUse:
    """A window of the kernel's list. `unit` is a dash while the window is closed; `faults` since it was last opened."""

    window_id: int
    credit_type: str
    status: str
    unit: str
    faults: int


def nxstat(place: OnPartition, words: Sequence[str]) -> int:
    """Print the levels asked for, all of them where none is."""
    try:
        pairs, rest = getopt.getopt(list(words), "AUTW")
    except getopt.GetoptError as error:
        place.err.write(f"nxstat: {error.msg}\n{USAGE}")
        return USAGE_ERROR
    if rest:
        place.err.write(f"nxstat: no intervals: the counts are those since the windows were opened\n{USAGE}")
        return USAGE_ERROR
    wanted = {flag for flag, _ in pairs} or set(LEVELS)
    uses = windows(place)
    types = credits_of(place)
    tables = {
        "-A": table(LEVELS["-A"], ["gzip"], uses, lambda _use: "gzip"),
        "-U": table(LEVELS["-U"], [], uses, lambda use: use.unit),
        "-T": table(LEVELS["-T"], types.values(), uses, lambda use: types[use.credit_type]),
        "-W": table(LEVELS["-W"], [], uses, window_of),
    }
    place.out.write("\n".join(tables[flag] for flag in LEVELS if flag in wanted))
    return 0


def windows(place: OnPartition) -> list[WindowUse]:
    """The kernel's windows, newest first, with the units that the hypervisor knows them on."""
    units = {row.window_id: row.unit for row in place.console.windows(place.name)}
    faults = {line[0]: int(line[4]) for line in lines(place.files.read(FAULTS))}
    return [
        WindowUse(int(window_id), kind, status, units.get(int(window_id), NOT_COUNTED), faults.get(window_id, 0))
        for _order, kind, window_id, status, *_rest in lines(place.files.read(WINDOWS))
    ]


def lines(text: str) -> Iterable[list[str]]:
    """The lines of a listing after its header, split; the one that counts what did not fit is left out."""
    return (line.split() for line in text.splitlines()[1:] if not line.startswith("#"))


def window_of(use: WindowUse) -> str:
    return f"{use.window_id} {use.credit_type} {use.unit} {use.status}"


def credits_of(place: OnPartition) -> dict[str, str]:
    """Each window type that the partition has, with its credits: used of total."""
    titles: dict[str, str] = {}
    for credit_type in CreditType:
        name = credit_type.name.lower()
        try:
            used, total = (place.files.read(CREDITS.format(name, f"nr_{which}_credits")) for which in ("used", "total"))
        except FileNotFoundError:
            continue
        titles[name] = f"{name} credits={used.strip()}/{total.strip()}"
    return titles


def table(level: str, names: Iterable[str], uses: Iterable[WindowUse], key: Callable[[WindowUse], str]) -> str:
    """One level: a heading, then a line with the sums for each name, and for each other key of a window."""
    groups: dict[str, list[WindowUse]] = {name: [] for name in names}
    for use in uses:
        groups.setdefault(key(use), []).append(use)
    width = max(len(name) for name in [level, *groups])
    rows: list[tuple[str, Sequence[str]]] = [(level, COLUMNS)]
    for name, members in groups.items():
        counts = (str(len(members)), NOT_COUNTED, str(sum(use.faults for use in members)))
        rows.append((name, (*counts, *[NOT_COUNTED] * 3)))
    return "".join(name.ljust(width) + "".join(f"{value:>8}" for value in values) + "\n" for name, values in rows)
