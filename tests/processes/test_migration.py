"""`vasbus hmc migrate` across real processes, under the load of a client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

from lpar.client import NxGzip, Request
from protocol.codes import CompletionCode, FunctionCode
from tests.processes.cluster import Cluster, counter

DATA = b"".join(os.urandom(40) + b"on the move " * 60 for _ in range(300))
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA[:10_000], 10_000)
COMMAND_WAIT_S = 60


class Load(threading.Thread):
    """A client that compresses until it is told to stop; `rounds` were right, `failure` is what was not."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.stopping = threading.Event()
        self.begun = threading.Event()
        self.rounds = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with self.cluster.lpar("lp1") as lp1, NxGzip(lp1, on_suspend="software") as nx:
                while not self.stopping.is_set():
                    assert nx.decompress(nx.compress(DATA)) == DATA
                    self.rounds += 1
                    self.begun.set()
        except BaseException as error:
            self.failure = error
            self.begun.set()

    def finish(self) -> None:
        self.stopping.set()
        self.join(COMMAND_WAIT_S)
        assert not self.is_alive(), "the load does not end"
        assert self.failure is None, self.failure


def migrate(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vasbus", "hmc", "migrate", "lp1", "--dir", str(cluster.folder.path), *words],
        capture_output=True,
        text=True,
        timeout=COMMAND_WAIT_S,
        check=False,
    )


def test_a_partition_migrates_under_load_and_every_window_comes_back(cluster: Cluster) -> None:
    load = Load(cluster)
    load.start()
    with cluster.lpar("lp1") as lp1:
        windows = [lp1.open_window() for _ in range(6)]
        assert load.begun.wait(COMMAND_WAIT_S)
        before = load.rounds
        done = migrate(cluster, "--hold", "0.5", "--json")
        assert done.returncode == 0, done.stderr
        applied = json.loads(done.stdout)
        after = load.rounds
        load.finish()
        assert {window.window_id for window in windows} <= set(applied["closed"])
        assert len(applied["reopened"]) == len(applied["closed"])
        assert not set(applied["closed"]) & set(applied["reopened"])
        assert (applied["total_before"], applied["total_after"]) == (40, 40)
        assert applied["elapsed_us"] >= 500_000
        assert after > before, "the load went on meanwhile"
        assert counter(lp1, "nr_used_credits") == len(windows)
        assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)
        for window in windows:
            window.close()


def test_the_command_tells_people_what_was_closed_and_reopened(cluster: Cluster) -> None:
    with cluster.lpar("lp1") as lp1:
        window = lp1.open_window()
        done = migrate(cluster)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("lp1: migrated, default credits 40 -> 40 (generation ")
        assert "closed 1 window: " in done.stdout
        assert "reopened 1 window: " in done.stdout
        window.close()
    refused = migrate(cluster, "--hold", "60")
    assert refused.returncode == 1
    assert "a hold of 60000 ms does not end within the wait of 30000 ms" in refused.stderr
