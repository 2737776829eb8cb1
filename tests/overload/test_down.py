"""How long `vasbus down` waits, what it kills and what it says about it: the exit code tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.processes import find_processes
from protocol.codes import ExitCode
from tests.failures.rows import failure
from tests.overload.test_shutdown import DEADLINE_S, ROOT, no_device, with_times
from tests.processes.cluster import SYSTEM, Cluster, eventually

PATIENT_MS = 6_000
BRIEF_MS = 500


@contextmanager
def cluster_of(path: Path, kernel_deadline_ms: int) -> Iterator[Cluster]:
    """A cluster whose partitions have so long to wind up; nothing of it is left behind."""
    cluster = Cluster.start(path, with_times(SYSTEM, {"kernel_deadline_ms": kernel_deadline_ms}))
    runtime = cluster.folder.runtime_folder()
    try:
        yield cluster
    finally:
        for found in find_processes(runtime):
            os.kill(found.pid, signal.SIGKILL)
        cluster.down()


def start_down(cluster: Cluster) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vasbus", "down", "--dir", str(cluster.folder.path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_down_gives_a_partition_its_own_deadline_to_wind_up_also_when_it_is_interrupted(tmp_path: Path) -> None:
    with cluster_of(tmp_path, PATIENT_MS) as cluster, cluster.lpar("lp1") as lpar:
        lpar.open_window()
        os.kill(cluster.pid("hypervisor"), signal.SIGSTOP)
        process = start_down(cluster)
        eventually(lambda: no_device(lpar), "it has begun")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == ExitCode.OK, output
        assert "killed" not in output
        assert "stopped 6 processes" in output
        assert "left behind: 1 windows" in cluster.folder.log_path("lp1").read_text()


@failure(
    "shutdown",
    "`vasbus down` meets a process that does not stop",
    seen="Exit code 33, and whom it killed; exit code 30 where a second signal asked for haste.",
    lasts="The partitions' deadline (`times.kernel_deadline_ms`) and 3 s; at the second signal no time.",
    kept="No process and no socket stays behind; the ledger, where it was to be kept.",
)
def test_down_kills_what_does_not_stop_and_says_so(tmp_path: Path) -> None:
    with cluster_of(tmp_path, BRIEF_MS) as cluster:
        runtime, pid, over = cluster.folder.runtime_folder(), cluster.pid("nx0"), threading.Event()

        def hang() -> None:
            while not over.wait(0.005):
                try:
                    os.kill(pid, signal.SIGSTOP)
                except ProcessLookupError:
                    return

        hanging = threading.Thread(target=hang)
        hanging.start()
        try:
            process = start_down(cluster)
            output, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            over.set()
            hanging.join()
        assert process.returncode == ExitCode.KILLED, output
        assert "nx0 did not stop and was killed after 3.5 s" in output
        assert not find_processes(runtime)
        assert not runtime.exists()


def test_the_second_signal_makes_down_kill_at_once(tmp_path: Path) -> None:
    with cluster_of(tmp_path, 30_000) as cluster, cluster.lpar("lp1") as lpar:
        lpar.open_window()
        runtime = cluster.folder.runtime_folder()
        os.kill(cluster.pid("hypervisor"), signal.SIGSTOP)
        process = start_down(cluster)
        eventually(lambda: no_device(lpar), "it has begun")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S / 2)
        assert process.returncode == ExitCode.STOPPED_AT_ONCE, output
        assert "killed at the second signal" in output
        assert not find_processes(runtime)
        assert not runtime.exists()
