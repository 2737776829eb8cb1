"""Client processes at work: windows that get one request after the other, while the test does something else."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from lpar.client import Lpar, PasteRefused, Request, Window
from lpar.client.request import Csb
from lpar.client.steps import Procedure, pause
from lpar.client.tasks import Task
from lpar.client.window import run_on_window
from protocol.codes import CompletionCode, FunctionCode
from tests.system.system import ClientHost, System

DATA = b"what the clients keep compressing " * 20
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
PATIENCE_US = 50_000
PAUSE_US = 500


@dataclass(eq=False)
class Worker:
    """One window's requests: how many were completed, and how often it was refused for all of its patience."""

    window: Window
    completed: int = 0
    refused: int = 0


@dataclass
class Load:
    """Workers that go on until `stop`."""

    system: System
    workers: list[Worker] = field(default_factory=list)
    _tasks: list[Task[None]] = field(default_factory=list)
    _stopped: bool = False

    def put_on(self, lpar: Lpar, window: Window) -> Worker:
        """Keep this window of the process busy from now on."""
        host = lpar.driver
        assert isinstance(host, ClientHost)
        window.map()
        worker = Worker(window)
        task = Task(self._work(worker))
        self.workers.append(worker)
        self._tasks.append(task)
        host.core.submit(task, self.system.now_us)
        self.system.settle(host.host)
        return worker

    def _work(self, worker: Worker) -> Procedure[None]:
        while not self._stopped:
            try:
                csb: Csb = yield from run_on_window(worker.window._state, REQUEST, PATIENCE_US)
            except PasteRefused:
                worker.refused += 1
            else:
                assert csb.code is CompletionCode.OK
                assert zlib.decompress(csb.target, wbits=-15) == DATA
                worker.completed += 1
            yield from pause(PAUSE_US)

    def goes_on(self, working: list[Worker], waiting: list[Worker]) -> None:
        """Wait until each of `working` has completed another request and each of `waiting` has been refused again."""
        before = {id(worker): (worker.completed, worker.refused) for worker in self.workers}
        self.system.run_until(
            lambda: (
                all(worker.completed > before[id(worker)][0] for worker in working)
                and all(worker.refused > before[id(worker)][1] for worker in waiting)
            )
        )
        assert all(worker.completed <= before[id(worker)][0] + 1 for worker in waiting), "one may have been in flight"

    def stop(self) -> None:
        """Let every worker finish its request. Raises what went wrong in one."""
        self._stopped = True
        self.system.run_until(lambda: all(task.done for task in self._tasks))
        for task in self._tasks:
            task.outcome()
