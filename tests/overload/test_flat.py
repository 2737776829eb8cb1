"""Opens and closes leave nothing behind: descriptors, sockets, memory and every table are afterwards as before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.abuse.standing import rss_kib
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.overload.conftest import PARTS, ROOT
from tests.overload.crowd import crowd_of
from tests.overload.opening import run_rounds
from tests.processes.cluster import Cluster, eventually

PROCESSES, EACH = 2, 100_000
FLAT_S = 600
TABLES_LEAST = 500
"""There are more than these; a search that finds fewer looks in the wrong places."""
OBJECTS_MOST = 100
"""What the interpreter itself may have made meanwhile."""
CORE_MEMORY_MOST_KIB = 8 * 1024
MEMORY_MOST_KIB = 16 * 1024
"""What the allocator may keep, whatever was opened."""
FILES_MOST_BYTES = 16 << 20
"""The ledger, its log of at most four megabytes, and what the processes have logged."""
CLIENTS, DEPTH = 20, 2
LPARS = ("lp1", "lp3")


@failure(
    "overload",
    "200,000 windows opened and closed, one after the other",
    seen="Nothing.",
    lasts="Always.",
    kept="Every table has as many entries as before, and there are as many objects: nothing is left of a window.",
)
@pytest.mark.timeout(FLAT_S)
def test_two_hundred_thousand_opens_and_closes_leave_every_table_as_it_was(figure: Figure) -> None:
    command = [sys.executable, "-m", "tests.overload.flat", str(EACH)]
    began = time.monotonic()
    processes = [
        subprocess.Popen([*command, f"flat{number}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for number in range(PROCESSES)
    ]
    try:
        told = [json.loads(process.communicate(timeout=FLAT_S)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    figure("windows opened and closed", sum(one["windows"] for one in told), "")
    assert [one["windows"] for one in told] == [EACH] * PROCESSES
    grown = [one["looks"][1]["rss_kib"] - one["looks"][0]["rss_kib"] for one in told]
    figure("tables that were compared", min(len(one["looks"][0]["tables"]) for one in told), "")
    figure("most memory that was more afterwards", max(grown) / 1024, "MiB")
    print(f"  in {time.monotonic() - began:.0f} s")
    for one in told:
        before, after = one["looks"]
        assert len(before["tables"]) > TABLES_LEAST
        assert after["tables"] == before["tables"]
        assert after["descriptors"] == before["descriptors"]
        assert after["objects"] - before["objects"] <= OBJECTS_MOST
    assert max(grown) <= CORE_MEMORY_MOST_KIB


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds of the machine."""

    descriptors: int
    sockets: int
    threads: int


def held(pid: int) -> Held:
    targets = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets.append(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    sockets = sum(target.startswith("socket:") for target in targets)
    return Held(len(targets), sockets, len(list(Path(f"/proc/{pid}/task").iterdir())))


def files_bytes(cluster: Cluster) -> int:
    """The ledger with its log, and every process's log."""
    folder = cluster.folder.path
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def wave(cluster: Cluster, opens: int) -> None:
    """Clients that come, open and close so many windows among them, and go without a word."""
    addresses = cluster.folder.addresses()
    with crowd_of(CLIENTS, [addresses.device[lpar] for lpar in LPARS]) as crowd:
        _, over = run_rounds(crowd.members, opens, DEPTH)
        crowd.run(over, f"{opens} opens and closes", FLAT_S)


@contextmanager
def unchanged(cluster: Cluster, figure: Figure) -> Iterator[None]:
    """Afterwards every process holds of the machine what it held before."""
    pids = {part: cluster.pid(part) for part in PARTS}

    def machine() -> dict[str, Held]:
        return {part: held(pid) for part, pid in pids.items()}

    before = machine()
    memory = {part: rss_kib(pid) for part, pid in pids.items()}
    yield
    eventually(lambda: machine() == before, "descriptors, sockets and threads are as before")
    eventually(lambda: not cluster.windows(), "no window is left")
    grown = {part: rss_kib(pid) - memory[part] for part, pid in pids.items()}
    figure("most memory that a process had more of afterwards", max(grown.values()) / 1024, "MiB")
    figure("ledger and logs", files_bytes(cluster) / (1 << 20), "MiB")
    assert max(grown.values()) <= MEMORY_MOST_KIB, grown
    assert files_bytes(cluster) <= FILES_MOST_BYTES


def open_and_close(cluster: Cluster, figure: Figure, waves: int, opens: int) -> None:
    """Waves of clients, the first of which fills what is filled once."""
    wave(cluster, opens)
    with unchanged(cluster, figure):
        began = time.monotonic()
        for _ in range(waves):
            wave(cluster, opens)
        total = waves * opens
        figure(
            f"{total:,} opens and closes of {waves * CLIENTS:,} clients, each second",
            total / (time.monotonic() - began),
            "",
        )


@failure(
    "overload",
    "clients come, open and close windows and go without a word, again and again",
    seen="Nothing.",
    lasts="Always.",
    kept="Each process has as many descriptors, sockets and threads as before; its memory and its files stay as small.",
)
def test_opens_and_closes_leave_no_descriptor_socket_or_memory_behind(cluster: Cluster, figure: Figure) -> None:
    open_and_close(cluster, figure, waves=5, opens=400)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_a_million_opens_and_closes_leave_nothing_behind(cluster: Cluster, figure: Figure) -> None:
    open_and_close(cluster, figure, waves=200, opens=5_000)
