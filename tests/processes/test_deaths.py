"""What a death costs: each test kills or stops one process and watches the credits."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.launcher import serve_command
from lpar.client import KernelFailure, NxGzip, Request
from protocol.codes import CompletionCode, ExitCode, FallbackReason, FunctionCode, WindowStatus
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.processes.cluster import Cluster, eventually

REQUEST = Request(FunctionCode.COMPRESS_FHT, b"alive " * 1000, 10_000)
CLIENT = """
import sys
from lpar.client import Lpar
with Lpar(sys.argv[1]) as lpar:
    windows = [lpar.open_window() for _ in range(5)]
    print("open", flush=True)
    sys.stdin.read()
"""
BUSY_CLIENT = """
import sys, threading, time
from lpar.client import Lpar
hold_s = float(sys.argv[2])
gaps = [0.0]
def watch():
    last = time.monotonic()
    while True:
        time.sleep(0.01)
        gaps[0], last = max(gaps[0], time.monotonic() - last), time.monotonic()
with Lpar(sys.argv[1]) as lpar:
    windows = [lpar.open_window() for _ in range(5)]
    began = time.monotonic()
    sum(range(2_000_000))
    additions = int(2_400_000 * hold_s / (time.monotonic() - began))
    threading.Thread(target=watch, daemon=True).start()
    print("open", flush=True)
    while gaps[0] < hold_s:
        sum(range(additions))
        time.sleep(0.05)
    print(lpar.epoch, gaps[0], flush=True)
    sys.stdin.read()
"""
"""Holds the interpreter's lock in one C loop for so long that its other threads cannot run: it measures that."""


@contextmanager
def client_process(
    cluster: Cluster, name: str, program: str = CLIENT, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    """A client that holds five windows and then waits, or does what the program says."""
    endpoint = cluster.folder.addresses().device[name]
    process = subprocess.Popen(
        [sys.executable, "-c", program, endpoint, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_client_costs_its_credits_for_one_lease(cluster: Cluster, figure: Figure) -> None:
    with client_process(cluster, "lp1") as client:
        assert cluster.in_use("lp1") == 5
        client.kill()
        took_s = eventually(lambda: cluster.in_use("lp1") == 0, "its windows are closed")
    figure("client killed to credits free (lease 0.5 s)", took_s, "s")
    assert took_s < 5 * (0.5 + 0.2)


def test_a_stopped_client_that_comes_back_within_its_lease_keeps_its_windows(cluster: Cluster) -> None:
    with client_process(cluster, "lp1") as client:
        before = [row.window_id for row in cluster.windows("lp1")]
        client.send_signal(signal.SIGSTOP)
        client.send_signal(signal.SIGCONT)
        with cluster.lpar("lp1") as lp1:
            lp1.open_window().close()
        assert [row.window_id for row in cluster.windows("lp1")] == before


@failure(
    "hypervisor",
    "killed, and restarted within the fence",
    seen="Opens, closes and console commands wait; pastes go on.",
    lasts="The start of its process.",
    kept="Every session, every window and every credit.",
)
def test_a_restarted_hypervisor_costs_nobody_a_window(cluster: Cluster, figure: Figure) -> None:
    with cluster.lpar("lp1") as lp1, ThreadPoolExecutor(1) as beside:
        window = lp1.open_window()
        window.map()
        before = [(row.window_id, row.process_id) for row in cluster.windows()]
        cluster.kill("hypervisor")
        restarting = beside.submit(cluster.up)
        pastes = 0
        while not restarting.done():
            assert window.run(REQUEST).code is CompletionCode.OK
            pastes += 1
        restarting.result()
        figure("pastes that were done while it restarted", pastes, "pastes")
        assert pastes
        assert [(row.window_id, row.process_id) for row in cluster.windows()] == before
        assert window.run(REQUEST).code is CompletionCode.OK
        another = lp1.open_window()
        another.close()
        window.close()
    assert cluster.windows() == []


def test_a_killed_partition_gives_its_credits_back_and_starts_anew(cluster: Cluster, figure: Figure) -> None:
    with client_process(cluster, "lp2"):
        assert cluster.in_use("lp2") == 5
        cluster.kill("lp2")
        took_s = eventually(lambda: cluster.in_use("lp2") == 0, "its windows are fenced")
        figure("partition killed to credits free (lease 1.5 s)", took_s, "s")
        assert took_s < 5 * 1.5
        cluster.up()
        with cluster.lpar("lp2") as lp2:
            lp2.open_window().close()
    assert cluster.in_use("lp2") == 0


def test_windows_of_a_killed_unit_work_again_when_it_is_back(cluster: Cluster) -> None:
    with cluster.lpar("lp2") as lp2:
        window = lp2.open_window()
        window.map()
        assert window.run(REQUEST).code is CompletionCode.OK
        unit = cluster.windows("lp2")[0].unit
        cluster.kill(unit)
        cluster.up()
        assert window.run(REQUEST, timeout=20).code is CompletionCode.OK
        window.close()
    eventually(lambda: cluster.in_use("lp2") == 0, "the window is closed")


def session_epochs(cluster: Cluster) -> dict[str, tuple[int, int]]:
    """By partition: its epoch and generation."""
    with cluster.console() as console:
        return {lpar.name: (lpar.epoch, lpar.generation) for lpar in console.system().lpars}


def partition_state(cluster: Cluster, name: str) -> str:
    with cluster.console() as console:
        return next(lpar.state for lpar in console.system().lpars if lpar.name == name)


def test_a_partition_stopped_for_less_than_its_lease_has_lost_nothing(cluster: Cluster) -> None:
    with cluster.lpar("lp1") as lp1:
        window = lp1.open_window()
        window.map()
        epochs, rows = session_epochs(cluster), cluster.windows()
        pid = cluster.pid("lp1")
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: partition_state(cluster, "lp1") == "suspected", "its silence is noticed")
            assert window.run(REQUEST).code is CompletionCode.OK
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: partition_state(cluster, "lp1") == "running", "it is heard again")
        assert (session_epochs(cluster), cluster.windows()) == (epochs, rows)
        assert window.run(REQUEST).code is CompletionCode.OK
        window.close()


def test_a_partition_stopped_for_longer_is_told_that_it_is_dead(cluster: Cluster, figure: Figure) -> None:
    with cluster.lpar("lp1") as lp1:
        window = lp1.open_window()
        gzip = NxGzip(lp1, on_suspend="reopen", mode="nx", small_bytes=0)
        gzip.open()
        epochs, pid = session_epochs(cluster), cluster.pid("lp1")
        os.kill(pid, signal.SIGSTOP)
        try:
            took_s = eventually(lambda: cluster.in_use("lp1") == 0, "its credits are free")
        finally:
            os.kill(pid, signal.SIGCONT)
        figure("partition stopped to credits free (lease 1.5 s)", took_s, "s")
        assert took_s < 5 * 1.5
        eventually(lambda: session_epochs(cluster)["lp1"] > epochs["lp1"], "it has a new session")
        with pytest.raises(KernelFailure) as dead:
            window.run(REQUEST)
        assert dead.value.errno == errno.ENODEV
        data = os.urandom(50_000)
        assert zlib.decompress(gzip.compress(data), wbits=31) == data
        assert gzip.statistics().reopenings == 1
        gzip.close()
    eventually(lambda: cluster.in_use("lp1") == 0, "the window of the new session is closed")


def test_a_stopped_unit_costs_a_request_its_deadline_and_comes_back(cluster: Cluster, figure: Figure) -> None:
    data = os.urandom(1000) + b"hung " * 50_000
    with cluster.lpar("lp1") as lp1, NxGzip(lp1, timeout=1.0, small_bytes=0) as gzip:
        gzip.compress(data)
        (row,) = cluster.windows("lp1")
        pid = cluster.pid(row.unit)
        os.kill(pid, signal.SIGSTOP)
        try:
            took_s = eventually(lambda: zlib.decompress(gzip.compress(data), wbits=31) == data, "software does it")
            eventually(lambda: cluster.windows("lp1")[0].status is WindowStatus.HARDWARE_FAILURE, "it is known to hang")
            with lp1.open_window() as elsewhere:
                assert elsewhere.run(REQUEST).code is CompletionCode.OK
        finally:
            os.kill(pid, signal.SIGCONT)
        figure("a request at a hung unit (timeout 1 s)", took_s, "s")
        assert took_s < 5 * 1.0
        assert gzip.statistics().compress.fallback[FallbackReason.TIMEOUT] == len(data)
        before = gzip.statistics().compress.nx_bytes
        eventually(
            lambda: gzip.compress(data) != b"" and gzip.statistics().compress.nx_bytes > before, "it works again"
        )
        assert [found.window_id for found in cluster.windows("lp1")] == [row.window_id]


@pytest.mark.parametrize(("role", "name"), [("lpar", "lp1"), ("nxunit", "nx0")])
def test_a_second_process_of_a_name_ends_at_once(cluster: Cluster, role: str, name: str) -> None:
    pid = cluster.pid(name)
    second = subprocess.run(serve_command(cluster.folder, role, name), capture_output=True, text=True, timeout=60)
    assert second.returncode == ExitCode.ADDRESS_IN_USE, second.stderr
    assert "another process" in second.stderr
    assert cluster.pid(name) == pid
    assert partition_state(cluster, "lp1") == "running"


def test_a_client_that_holds_the_interpreters_lock_for_ten_seconds_keeps_its_windows(
    cluster: Cluster, figure: Figure
) -> None:
    with client_process(cluster, "lp1", BUSY_CLIENT, "10") as client:
        before = cluster.windows("lp1")
        assert client.stdout is not None
        epoch, held_s = client.stdout.readline().split()
        figure("the interpreter's lock was held (lease 0.5 s)", float(held_s), "s")
        assert float(held_s) >= 10
        assert int(epoch) >= 1
        assert cluster.windows("lp1") == before
        assert len(before) == 5


def test_nothing_is_left_after_down_even_when_everything_was_killed(tmp_path: Path) -> None:
    cluster = Cluster.start(tmp_path)
    runtime = cluster.folder.runtime_folder()
    for name in ("hypervisor", "nx0", "lp1"):
        cluster.kill(name)
    assert cluster.down() == 3
    assert not runtime.exists()
    assert cluster.down() == 0
