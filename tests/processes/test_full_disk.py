"""A ledger that has no room: the hypervisor ends, says so, and goes on where it was when there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.inspection import inspect
from protocol.codes import ExitCode
from tests.failures.rows import failure
from tests.processes.cluster import eventually
from tests.processes.many_lpars import kernels_of
from tests.processes.parts import WAIT_S, processes, settled

WINDOWS = 600
ROOM_PAGES = 10
"""A page holds about 40 windows, or the answers to about 10 hcalls that were not acknowledged yet."""
SYSTEM = """
[system]
name = "small"
credits_per_core = 800

[[chip]]
number = 0
unit = "nx0"
cores = 1

[[lpar]]
name = "lp1"
cores = 1
"""
ON_A_SMALL_DISK = f"""
import hypervisor.serve
from hypervisor.store import LedgerStore

class SmallDisk(LedgerStore):
    def __init__(self, path, **options):
        super().__init__(path, **options)
        pages = self.database.execute("PRAGMA page_count").fetchone()[0]
        self.database.execute(f"PRAGMA max_page_count = {{pages + {ROOM_PAGES}}}")

hypervisor.serve.LedgerStore = SmallDisk
from vasbus.command import main
main()
"""


@pytest.fixture(scope="module")
def cluster() -> None:
    """The partition of this module is the test."""


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> None:
    """The whole system ends with its test."""


@failure(
    "ledger",
    "the disk is full",
    seen="The hypervisor ends with STORE_FULL and one line; hcalls wait, pastes go on within the fence (fence_ms).",
    lasts="Until there is room and the hypervisor is started again.",
    kept="Every window that was answered for. The requests of the turn that found no room are carried out afterwards.",
)
def test_a_hypervisor_whose_disk_is_full_ends_and_goes_on_when_there_is_room(
    tmp_path: Path, figure: Callable[[str, float, str], None]
) -> None:
    with processes(tmp_path, SYSTEM) as started, kernels_of(SYSTEM, started.folder) as kernels:
        (lp1,) = kernels.all
        eventually(lambda: settled(started.folder), "the unit is known")
        started.kill("hypervisor")
        started.start("hypervisor", "hypervisor", "-c", ON_A_SMALL_DISK)
        for _ in range(WINDOWS):
            lp1.allocate()
        kernels.run(lambda: started.running["hypervisor"].poll() is not None, WAIT_S)
        assert started.ending("hypervisor") == ExitCode.STORE_FULL
        ledger = started.folder.ledger_path
        log = started.folder.log_path("hypervisor").read_text()
        assert (
            f"{ledger}: could not write the ledger: database or disk is full; nothing of this turn was answered" in log
        )
        before, answered = inspect(ledger), len(lp1.allocated)
        assert before.findings == []
        assert 0 < answered <= before.rows["LedgerWindowRow"] < WINDOWS
        figure("windows before the disk was full", answered, "windows")
        started.start("hypervisor", "hypervisor")
        kernels.run(lambda: len(lp1.bound) == WINDOWS, WAIT_S)
        assert (len({window.window_id for window in lp1.allocated}), lp1.refused, lp1.ended) == (WINDOWS, [], None)
        started.kill("hypervisor")
        after = inspect(ledger)
        assert (after.findings, after.rows["LedgerWindowRow"]) == ([], WINDOWS)
