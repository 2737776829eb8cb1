"""What a death costs: each test kills one process and watches the credits."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lpar.client import Request
from protocol.codes import CompletionCode, FunctionCode
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


@contextmanager
def client_process(cluster: Cluster, name: str) -> Iterator[subprocess.Popen[str]]:
    """A client that holds five windows and then waits."""
    endpoint = cluster.folder.addresses().device[name]
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_client_costs_its_credits_for_one_lease(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    with client_process(cluster, "lp1") as client:
        assert cluster.in_use("lp1") == 5
        client.kill()
        took_s = eventually(lambda: cluster.in_use("lp1") == 0, "its windows are closed")
    with capsys.disabled():
        print(f"\nclient killed to credits free: {took_s:.2f} s (lease 0.5 s)")
    assert took_s < 5 * (0.5 + 0.2)


def test_a_stopped_client_that_comes_back_within_its_lease_keeps_its_windows(cluster: Cluster) -> None:
    with client_process(cluster, "lp1") as client:
        before = [row.window_id for row in cluster.windows("lp1")]
        client.send_signal(signal.SIGSTOP)
        client.send_signal(signal.SIGCONT)
        with cluster.lpar("lp1") as lp1:
            lp1.open_window().close()
        assert [row.window_id for row in cluster.windows("lp1")] == before


def test_a_restarted_hypervisor_costs_nobody_a_window(cluster: Cluster) -> None:
    with cluster.lpar("lp1") as lp1:
        window = lp1.open_window()
        window.map()
        before = [(row.window_id, row.process_id) for row in cluster.windows()]
        cluster.kill("hypervisor")
        assert window.run(REQUEST).code is CompletionCode.OK
        cluster.up()
        assert [(row.window_id, row.process_id) for row in cluster.windows()] == before
        assert window.run(REQUEST).code is CompletionCode.OK
        another = lp1.open_window()
        another.close()
        window.close()
    assert cluster.windows() == []


def test_a_killed_partition_gives_its_credits_back_and_starts_anew(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with client_process(cluster, "lp2"):
        assert cluster.in_use("lp2") == 5
        cluster.kill("lp2")
        took_s = eventually(lambda: cluster.in_use("lp2") == 0, "its windows are fenced")
        with capsys.disabled():
            print(f"\npartition killed to credits free: {took_s:.2f} s (lease 1.5 s)")
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


def test_nothing_is_left_after_down_even_when_everything_was_killed(tmp_path: Path) -> None:
    cluster = Cluster.start(tmp_path)
    runtime = cluster.folder.runtime_folder()
    for name in ("hypervisor", "nx0", "lp1"):
        cluster.kill(name)
    assert cluster.down() == 3
    assert not runtime.exists()
    assert cluster.down() == 0
