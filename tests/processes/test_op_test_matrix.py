"""A part of IBM's op-test matrix on a real cluster, while clients compress: after each step every count is exact."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Condition, Event, Thread

import pytest

from lpar.client import KernelFailure, Lpar, PasteArea, PasteRefused, Request, Window
from protocol.codes import FunctionCode
from protocol.console_messages import ConfigurationApplied
from tests.fidelity.rows import fidelity
from tests.processes.cluster import WAIT_S, WINDOW_LIST, Cluster, counter

MATRIX = """
[system]
name = "matrix"

[times]
beat_ms = 200
suspect_ms = 600
lpar_lease_ms = 1500
client_lease_ms = 500
fence_ms = 6000

[[chip]]
number = 0
unit = "nx0"
cores = 8

[[lpar]]
name = "dedicated"
cores = 5

[[lpar]]
name = "shared"
mode = "shared"
hundredths = 100
"""
CREDITS_PER_PROCESSOR = 20
CLIENTS = 3
DATA = b"what the clients keep compressing " * 200
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
PACE_S = 0.005
"""How long a client leaves a window alone that was refused."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster.start(tmp_path_factory.mktemp("matrix"), MATRIX)
    try:
        yield started
    finally:
        started.down()


@dataclass(eq=False)
class Worker:
    """The requests of one window, which was opened at this `place` from 0: completed, and refused by CR0."""

    place: int
    area: PasteArea
    completed: int = 0
    refused: int = 0


@dataclass
class Load:
    """A thread for each worker, until `stop`."""

    workers: list[Worker] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    _threads: list[Thread] = field(default_factory=list)
    _news: Condition = field(default_factory=Condition)
    _stopping: Event = field(default_factory=Event)

    def put_on(self, place: int, window: Window) -> None:
        worker = Worker(place, window.map())
        thread = Thread(target=self._work, args=(worker,))
        self.workers.append(worker)
        self._threads.append(thread)
        thread.start()

    def _work(self, worker: Worker) -> None:
        try:
            while not self._stopping.is_set():
                self._request(worker)
        except Exception as failure:
            with self._news:
                self.failures.append(failure)
                self._news.notify_all()

    def _request(self, worker: Worker) -> None:
        try:
            csb = worker.area.paste(REQUEST).wait()
        except PasteRefused:
            with self._news:
                worker.refused += 1
                self._news.notify_all()
            self._stopping.wait(PACE_S)
            return
        assert zlib.decompress(csb.target, wbits=-15) == DATA
        with self._news:
            worker.completed += 1
            self._news.notify_all()

    def goes_on(self, active: int) -> None:
        """Every worker of an active window completes a request, and the others are refused."""
        with self._news:
            before = [self._done(worker, active) for worker in self.workers]

            def all_did() -> bool:
                now = [self._done(worker, active) for worker in self.workers]
                return bool(self.failures) or all(was < has for was, has in zip(before, now, strict=True))

            assert self._news.wait_for(all_did, WAIT_S), "every client had its turn"
            assert not self.failures

    @staticmethod
    def _done(worker: Worker, active: int) -> int:
        return worker.completed if worker.place < active else worker.refused

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(WAIT_S)
        assert not self.failures


@dataclass
class Matrix:
    """A partition with a window for each credit; each client keeps its first and its last one busy."""

    cluster: Cluster
    name: str
    clients: list[Lpar]
    windows: list[Window] = field(default_factory=list)
    load: Load = field(default_factory=Load)

    def fill(self, total: int) -> None:
        while len(self.windows) < total:
            self.windows.append(self.clients[len(self.windows) % CLIENTS].open_window())
        with pytest.raises(KernelFailure) as refusal:
            self.clients[0].open_window()
        assert refusal.value.errno == errno.EINVAL
        for place in (*range(CLIENTS), *range(total - CLIENTS, total)):
            self.load.put_on(place, self.windows[place])
        self.check(total)

    def changed(self, applied: ConfigurationApplied, before: int, after: int) -> None:
        """A step: what the console said, the counts, and who works now."""
        assert (applied.total_before, applied.total_after) == (before, after)
        assert (len(applied.closed), len(applied.reopened)) == (max(0, before - after), max(0, after - before))
        self.check(after)
        self.load.goes_on(after)
        self.check(after)

    def check(self, total: int) -> None:
        reader = self.clients[0]
        assert (counter(reader, "nr_total_credits"), counter(reader, "nr_used_credits")) == (total, len(self.windows))
        listed = [line.split() for line in reader.read(WINDOW_LIST).splitlines()[1:]]
        closed = len(self.windows) - total
        assert [line[3] for line in listed] == ["no_cred_close"] * closed + ["active"] * total
        assert {row.window_id for row in self.cluster.windows(self.name)} == {int(line[2]) for line in listed[closed:]}
        assert self.cluster.in_use(self.name) == total

    def end(self) -> None:
        try:
            self.load.stop()
        finally:
            for client in self.clients:
                client.close()


@pytest.fixture
def matrix(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Matrix]:
    matrix = Matrix(cluster, request.param, [cluster.lpar(request.param) for _ in range(CLIENTS)])
    try:
        yield matrix
    finally:
        matrix.end()


@fidelity(
    "5 credits",
    "Removing and adding 1, 2 and 4 dedicated processors under load moves the total to processors x 20, exactly.",
    source="OPT",
)
@pytest.mark.parametrize("matrix", ["dedicated"], indirect=True)
def test_processors_of_a_real_cluster_removed_and_added_under_load_move_the_credits_exactly(matrix: Matrix) -> None:
    cores = 5
    matrix.fill(cores * CREDITS_PER_PROCESSOR)
    with matrix.cluster.console() as console:
        for step in (-1, -2, 2, 1, -4, 4):
            before, cores = cores, cores + step
            applied = console.change_processors("dedicated", step)
            matrix.changed(applied, before * CREDITS_PER_PROCESSOR, cores * CREDITS_PER_PROCESSOR)


@fidelity(
    "5 credits",
    "Changing shared capacity by 0.1, 0.2 and 0.4 units under load moves the total to entitled capacity x 20, exactly.",
    source="OPT",
)
@pytest.mark.parametrize("matrix", ["shared"], indirect=True)
def test_capacity_of_a_real_cluster_lowered_and_raised_under_load_moves_the_credits_exactly(matrix: Matrix) -> None:
    matrix.fill(20)
    with matrix.cluster.console() as console:
        for before, after in ((100, 90), (90, 70), (70, 30), (30, 70), (70, 90), (90, 100)):
            matrix.changed(console.set_entitlement("shared", after), before // 5, after // 5)
