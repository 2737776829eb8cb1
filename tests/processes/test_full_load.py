"""Every core busy for a minute: nobody is taken for dead. Leases are those of the sample system.

The busy processes have the same priority as the cluster's. This module has a cluster of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lpar.client import Lpar, Request
from protocol.codes import CompletionCode, FunctionCode
from protocol.console_messages import SystemStatus
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.processes.cluster import SYSTEM, Cluster

SHORT_S, LONG_S = 60, 600
BUSY = "while True: pass"
DATA = b"what is compressed under full load " * 1_000
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
TIMES = SYSTEM[SYSTEM.index("[times]") : SYSTEM.index("[[chip]]")]
DEATHS = (
    "lpar_ended",
    "unit_lost",
    "unit_fenced",
    "unit_counts_as_quiet",
    "earlier_unit_fenced",
    "partition_restarted",
    "fabric_session_dead",
)
"""What a log says of a death, a true or a false one. `unit_fenced` is the unit's own word."""
SUSPICIONS = ("lpar_suspected", "unit_suspected")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with the times that a system file need not name."""
    started = Cluster.start(tmp_path_factory.mktemp("load"), SYSTEM.replace(TIMES, ""))
    try:
        yield started
    finally:
        started.down()


@contextmanager
def every_core_busy() -> Iterator[int]:
    """As many busy processes as there are cores."""
    count = len(os.sched_getaffinity(0))
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield count
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Working(threading.Thread):
    """A client that keeps one window busy."""

    def __init__(self, lpar: Lpar, stop: threading.Event) -> None:
        super().__init__()
        self.window = lpar.open_window()
        self.stop = stop
        self.completed = 0
        self.longest_s = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                began = time.monotonic()
                assert self.window.run(REQUEST, timeout=60).code is CompletionCode.OK
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.completed += 1
        except Exception as error:
            self.error = error
            raise


def lives(status: SystemStatus) -> dict[str, tuple[int, int]]:
    """By process: its pid, and the epoch of a partition's session."""
    return {lpar.name: (lpar.pid, lpar.epoch) for lpar in status.lpars} | {
        unit.name: (unit.pid, 0) for unit in status.units
    }


def logged(folder: Path, events: Sequence[str]) -> list[str]:
    """The lines of these events in the logs of every process."""
    lines = [line for path in sorted((folder / "logs").glob("*.log")) for line in path.read_text().splitlines()]
    return [line for line in lines if any(f'"{event}"' in line for event in events)]


def test_every_word_that_is_looked_for_is_one_that_a_process_says() -> None:
    folders = [Path(__file__).parents[2] / role for role in ("hypervisor", "lpar", "nxunit")]
    sources = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    assert [event for event in DEATHS if f'"{event}"' not in sources] == []


def nobody_dies(cluster: Cluster, figure: Figure, duration_s: float) -> None:
    """Windows of idle and of working clients, through so many seconds of full load."""
    stop = threading.Event()
    with cluster.lpar("lp1") as lp1, cluster.lpar("lp2") as lp2, cluster.lpar("lp3") as idle:
        kept = [idle.open_window() for _ in range(5)]
        workers = [Working(lpar, stop) for lpar in (lp1, lp1, lp2)]
        with cluster.console() as console:
            before = console.system()
        rows, epochs = cluster.windows(), [lpar.epoch for lpar in (lp1, lp2, idle)]
        with every_core_busy() as busy:
            for worker in workers:
                worker.start()
            stop.wait(duration_s)
            stop.set()
            for worker in workers:
                worker.join(90)
        figure(f"{busy} busy processes on as many cores, for", duration_s, "s")
        figure("the longest request meanwhile", max(worker.longest_s for worker in workers), "s")
        assert [worker.error for worker in workers] == [None] * 3
        assert all(worker.completed > 0 for worker in workers)
        with cluster.console() as console:
            after = console.system()
        assert lives(after) == lives(before)
        assert (cluster.windows(), [lpar.epoch for lpar in (lp1, lp2, idle)]) == (rows, epochs)
        assert all(window.run(REQUEST).code is CompletionCode.OK for window in kept)
    assert len(logged(cluster.folder.path, ["lpar_started"])) == 3
    assert logged(cluster.folder.path, DEATHS) == []
    figure("suspicions, each taken back", len(logged(cluster.folder.path, SUSPICIONS)), "")


@failure(
    "client",
    "as any other process, on a machine whose every core is busy for a minute",
    seen="Slower answers.",
    lasts="As long as the load.",
    kept="Every session and window: nobody is taken for dead.",
)
@pytest.mark.timeout(240)
def test_nobody_is_taken_for_dead_on_a_machine_whose_every_core_is_busy(cluster: Cluster, figure: Figure) -> None:
    nobody_dies(cluster, figure, SHORT_S)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_nobody_is_taken_for_dead_in_ten_minutes_of_full_load(cluster: Cluster, figure: Figure) -> None:
    nobody_dies(cluster, figure, LONG_S)
