"""So many opens and closes in the joined cores of one system: what every table holds, and the process's memory.

A process of its own, whose memory is its own: TOTAL NAME. It prints sizes after a first part, and after all of them.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

from protocol.system import parse_system
from tests.abuse.standing import rss_kib
from tests.overload.joined import Joined
from tests.overload.opening import run_rounds
from tests.overload.tables import sizes

LPARS = 8
DEPTH = 4
WARM = 2_000
"""Opens and closes before the first look: tables of what has happened, such as counts by code, are filled by then."""
SETTLE_US = 15_000_000
SYSTEM = """
[system]
name = "{name}"

[[chip]]
number = 0
unit = "nx0"
cores = 16
""" + "".join(f'[[lpar]]\nname = "lp{number}"\ncores = 2\n' for number in range(LPARS))


def open_and_close(joined: Joined, count: int) -> None:
    """So many, the last of each client alone: with its last call every earlier answer is acknowledged."""
    for part, depth in ((count - len(joined.clients), DEPTH), (len(joined.clients), 1)):
        _, over = run_rounds(joined.clients, part, depth)
        joined.run(over, f"{part} opens and closes")


def look(joined: Joined) -> dict[str, object]:
    """Every table's entries, every object that there is, and the resident memory."""
    joined.pass_time(SETTLE_US)
    tables = {f"{name}{path}": count for name, core in joined.cores.items() for path, count in sizes(core).items()}
    tables |= {f"store {table.__name__}": len(rows) for table, rows in joined.store.tables.items()}
    gc.collect()
    return {"tables": tables, "objects": len(gc.get_objects()), "rss_kib": rss_kib(os.getpid()),
            "descriptors": len(list(Path("/proc/self/fd").iterdir()))}  # fmt: skip


def main() -> None:
    total, name = int(sys.argv[1]), sys.argv[2]
    joined = Joined(parse_system(SYSTEM.format(name=name), "flat"), clients=LPARS)
    looks = []
    for part in (WARM, total - WARM):
        open_and_close(joined, part)
        looks.append(look(joined))
    windows = joined.hypervisor.ledger.next_window_id - 1
    print(json.dumps({"windows": windows, "looks": looks}))


if __name__ == "__main__":
    main()
