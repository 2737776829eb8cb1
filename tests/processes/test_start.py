"""How soon a killed hypervisor works again, with 200 partitions that hold 10,000 windows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hmc.connection import Console
from protocol.codes import HcallCode
from tests.failures.rows import failure
from tests.processes.cluster import eventually
from tests.processes.many_lpars import kernels_of
from tests.processes.parts import processes, settled

LPARS = 200
WINDOWS_EACH = 50
AIM_S = 1.0
"""Asserted on the hypervisor's own processor time, which other work on the machine does not add to."""
BUSY_LIMIT_S = 5 * AIM_S
"""Asserted on the clock: what the aim may become while others have the cores for four fifths of the time."""
WAIT_S = 60.0
SYSTEM = """
[system]
name = "many"
credits_per_core = 1000

[[chip]]
number = 0
unit = "nx0"
cores = 6

[[chip]]
number = 1
unit = "nx1"
cores = 6
""" + "".join(f'[[lpar]]\nname = "lp{number}"\nmode = "shared"\nhundredths = 6\n' for number in range(LPARS))


@pytest.fixture(scope="module")
def cluster() -> None:
    """No partition of this module is a process."""


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> None:
    """The whole system ends with its test."""


def processor_s(pid: int) -> float:
    """Processor time that a process has had: fields 14 and 15 of its stat, counted from 1."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@failure(
    "hypervisor",
    "killed and restarted with 200 partitions and 10,000 windows",
    seen="New windows are put off with RETRY until every NX unit has told what it holds.",
    lasts="The start of one process and the reports of its units: below 1 s of its processor time, and of the clock "
    "where it has a core to itself; on busy cores below 5 s.",
    kept="Every session and every window, and the requests that were under way.",
)
def test_the_first_window_after_a_restart_with_10_000_others(
    tmp_path: Path, figure: Callable[[str, float, str], None]
) -> None:
    with processes(tmp_path, SYSTEM) as started, kernels_of(SYSTEM, started.folder) as kernels:
        kernels.run(lambda: all(kernel.dialer.established for kernel in kernels.all), WAIT_S)
        eventually(lambda: settled(started.folder), "the units are known", WAIT_S)
        for kernel in kernels.all:
            for _ in range(WINDOWS_EACH):
                kernel.allocate()
        kernels.run(lambda: all(len(kernel.bound) == WINDOWS_EACH for kernel in kernels.all), WAIT_S)
        started.kill("hypervisor")
        for kernel in kernels.all:
            kernel.allocate()
        began = time.monotonic()
        started.start("hypervisor", "hypervisor")
        kernels.run(lambda: any(len(kernel.allocated) > WINDOWS_EACH for kernel in kernels.all), WAIT_S)
        first_s, used_s = time.monotonic() - began, processor_s(started.running["hypervisor"].pid)
        kernels.run(lambda: all(len(kernel.bound) > WINDOWS_EACH for kernel in kernels.all), WAIT_S)
        figure("from exec to the first H_ALLOCATE", first_s, "s")
        figure("of that its own processor time", used_s, "s")
        figure("to the last of 200 new windows", time.monotonic() - began, "s")
        allocated = [window for kernel in kernels.all for window in kernel.allocated]
        windows = {window.window_id for window in allocated if window.code is HcallCode.H_SUCCESS}
        assert len(windows) == len(allocated) == LPARS * (WINDOWS_EACH + 1)
        assert [(kernel.dialer.session.epoch, kernel.ended, kernel.refused) for kernel in kernels.all] == (
            [(1, None, [])] * LPARS
        )
        with Console(started.folder.addresses().hmc) as console:
            assert {row.window_id for row in console.windows() if row.state == "open"} == windows
        assert used_s < AIM_S
        assert first_s < BUSY_LIMIT_S
