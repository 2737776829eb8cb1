"""What a death costs: each test kills or stops one process and watches the credits."""

from __future__ import annotations

import os
import signal
import subprocess
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.launcher import serve_command
from lpar.client import NxGzip, Request
from protocol.codes import CompletionCode, ExitCode, FallbackReason, FunctionCode, WindowStatus
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.processes.clients import client_process
from tests.processes.cluster import Cluster, eventually, partition_state, session_epochs

REQUEST = Request(FunctionCode.COMPRESS_FHT, b"alive " * 1000, 10_000)
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
