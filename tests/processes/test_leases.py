"""What a death costs in leases, with real processes: at most two of them. The exact figures are tests/system's."""

from __future__ import annotations

import errno
import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from lpar.client import KernelFailure, NxGzip, Request
from protocol.codes import FunctionCode
from tests.conftest import Figure
from tests.processes.clients import client_process
from tests.processes.cluster import SYSTEM, Cluster, eventually, session_epochs

LPAR_LEASE_S = 5.0
CLIENT_LEASE_S = 3.0
REQUEST = Request(FunctionCode.COMPRESS_FHT, b"alive " * 1000, 10_000)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with leases beside which a busy machine's delays are small."""
    system = SYSTEM
    for key, seconds in (("lpar_lease_ms", LPAR_LEASE_S), ("client_lease_ms", CLIENT_LEASE_S), ("fence_ms", 12)):
        system = "\n".join(
            f"{key} = {round(1000 * seconds)}" if line.startswith(key) else line for line in system.splitlines()
        )
    started = Cluster.start(tmp_path_factory.mktemp("leases"), system)
    try:
        yield started
    finally:
        started.down()


def lasts(seconds: float, holds: Callable[[], bool]) -> None:
    """Something stays so for a while."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        assert holds(), f"{end_s - time.monotonic():.1f} s too early"
        time.sleep(0.1)


def test_a_killed_client_costs_its_credits_for_one_lease(cluster: Cluster, figure: Figure) -> None:
    with client_process(cluster, "lp1") as client:
        assert cluster.in_use("lp1") == 5
        client.kill()
        took_s = eventually(lambda: cluster.in_use("lp1") == 0, "its windows are closed")
    figure(f"client killed to credits free (lease {CLIENT_LEASE_S:g} s)", took_s, "s")
    assert CLIENT_LEASE_S <= took_s <= 2 * CLIENT_LEASE_S


@pytest.mark.parametrize(("paused", "seconds"), [("lp1", 4.0), ("client", 3.0)])
def test_a_client_that_makes_no_call_keeps_its_windows_through_a_pause(
    cluster: Cluster, paused: str, seconds: float
) -> None:
    with client_process(cluster, "lp1") as client:
        before = cluster.windows("lp1")
        assert len(before) == 5
        pid = client.pid if paused == "client" else cluster.pid(paused)
        os.kill(pid, signal.SIGSTOP)
        try:
            lasts(seconds, lambda: len(cluster.windows("lp1")) == 5)
        finally:
            os.kill(pid, signal.SIGCONT)
        lasts(CLIENT_LEASE_S + 1, lambda: len(cluster.windows("lp1")) == 5)
        assert cluster.windows("lp1") == before
        assert client.poll() is None


def test_a_killed_partition_gives_its_credits_back_and_starts_anew(cluster: Cluster, figure: Figure) -> None:
    with client_process(cluster, "lp2"):
        assert cluster.in_use("lp2") == 5
        began = time.monotonic()
        cluster.kill("lp2")
        eventually(lambda: cluster.in_use("lp2") == 0, "its windows are fenced")
        took_s = time.monotonic() - began
        figure(f"partition killed to credits free (lease {LPAR_LEASE_S:g} s)", took_s, "s")
        assert took_s <= 2 * LPAR_LEASE_S
        cluster.up()
        with cluster.lpar("lp2") as lp2:
            lp2.open_window().close()
    assert cluster.in_use("lp2") == 0


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
        figure(f"partition stopped to credits free (lease {LPAR_LEASE_S:g} s)", took_s, "s")
        assert took_s <= 2 * LPAR_LEASE_S
        eventually(lambda: session_epochs(cluster)["lp1"] > epochs["lp1"], "it has a new session")
        with pytest.raises(KernelFailure) as dead:
            window.run(REQUEST)
        assert dead.value.errno == errno.ENODEV
        data = os.urandom(50_000)
        assert zlib.decompress(gzip.compress(data), wbits=31) == data
        assert gzip.statistics().reopenings == 1
        gzip.close()
    eventually(lambda: cluster.in_use("lp1") == 0, "the window of the new session is closed")
