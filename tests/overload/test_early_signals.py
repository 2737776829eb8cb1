"""Signals that come while a process starts: an exit code and one line, at any moment from the first on."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.cluster import ClusterFolder
from deploy.launcher import serve_command
from protocol.codes import ExitCode
from tests.failures.rows import failure
from tests.overload.conftest import SYSTEM
from tests.overload.test_shutdown import DEADLINE_S, ROOT
from tests.processes.cluster import eventually
from vasbus import interrupted


def catches(pid: int) -> bool:
    """Whether SIGTERM has a handler."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in status if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def loads_libraries(pid: int) -> bool:
    """Whether it is in the midst of its imports."""
    return "pydantic_core" in Path(f"/proc/{pid}/maps").read_text()


@failure(
    "shutdown",
    "a process is asked to stop while it starts",
    seen="Exit code 32 and one line; 0 where it is running by then.",
    lasts="No time.",
    kept="The ledger: nothing is stored before a process runs.",
)
@pytest.mark.parametrize("moment", [catches, loads_libraries])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("role", "name"), [("hypervisor", "hypervisor"), ("nxunit", "nx0"), ("lpar", "lp1")])
def test_a_process_that_starts_ends_by_a_signal_with_its_exit_code(
    tmp_path: Path, role: str, name: str, number: signal.Signals, moment: Callable[[int], bool]
) -> None:
    folder = ClusterFolder(tmp_path / "c")
    folder.create(SYSTEM)
    command = [*serve_command(folder, role, name), "--metrics", "off"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        eventually(lambda: moment(process.pid), "the moment has come")
        process.send_signal(number)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert "Traceback" not in output
        if process.returncode != ExitCode.OK:
            assert process.returncode == ExitCode.INTERRUPTED, output
            assert output == "vasbus: asked to stop before it was running\n"
    finally:
        process.kill()
        process.wait()
        folder.remove(keep_ledger=False)


def test_the_exit_codes_of_an_early_end_are_those_of_the_table() -> None:
    assert interrupted.NOT_BEGUN == ExitCode.INTERRUPTED
    assert interrupted.AT_ONCE == ExitCode.STOPPED_AT_ONCE
