"""Programs that use libnxz's interface on a whole simulated system: each is a process with threads of its own."""

from __future__ import annotations

from typing import Any, TypeVar

from lpar.client.shared_windows import SharedWindows
from lpar.client.software import Software
from lpar.client.steps import Procedure
from lpar.client.system_calls import read_file
from lpar.client.tasks import Task
from lpar.client.zlib_api import Selector, Status, Stream, ZlibApi
from tests.client.kernel import TOTAL, USED
from tests.system.system import ClientHost, System

T = TypeVar("T")
TIMEOUT_US = 20_000_000


class Program:
    """A process on a partition, linked with libnxz. Its threads run at the same time as those of all the others."""

    def __init__(self, system: System, lpar: str, selector: Selector) -> None:
        self.system = system
        self.host = ClientHost(system, lpar)
        self.zlib = ZlibApi(self.windows, Software(), selector, prefixed=False)
        self.nx = ZlibApi(self.windows, Software(), selector, prefixed=True)
        self._tasks: list[Task[Any]] = []

    @property
    def windows(self) -> SharedWindows:
        """What libnxz has in static variables."""
        return self.host.core.windows

    def start(self, procedure: Procedure[T]) -> Task[T]:
        """A thread that runs a procedure while the system goes on."""
        task = Task(procedure)
        self._tasks.append(task)
        self.host.core.submit(task, self.system.now_us)
        self.host._compute()
        self.system.settle(self.host.host)
        return task

    def finish(self, *tasks: Task[T]) -> list[T]:
        """Let the system run until these threads have ended."""
        for task in tasks:
            self.system.run_until(lambda: self.has_ended(task))  # noqa: B023 (called at once)
        return [task.outcome() for task in tasks]

    def run(self, procedure: Procedure[T]) -> T:
        """A thread, to its end."""
        return self.finish(self.start(procedure))[0]

    def has_ended(self, task: Task[Any]) -> bool:
        """Whether a thread is done. What it computes in software is done on the way."""
        self.host._compute()
        return task.done

    def credits(self) -> tuple[int, int]:
        """nr_total_credits and nr_used_credits."""
        total, used = (int(self.run(read_file(path, TIMEOUT_US))) for path in (TOTAL, USED))
        return total, used

    def exit(self) -> None:
        """The process ends; its kernel takes back what it held."""
        self.host.close()


class Child(Program):
    """A child of a test of libnxz: it begins a stream, waits, and is told to go on."""

    def __init__(self, system: System, lpar: str, selector: Selector, source: bytes) -> None:
        super().__init__(system, lpar, selector)
        self.stream = Stream(source)
        status = self.run(self.zlib.deflate_init(self.stream, 1))
        assert status is Status.Z_OK

    def go_on(self) -> Task[Status]:
        """Compress the source and end the stream; what deflate returned."""
        return self.start(self._go_on())

    def _go_on(self) -> Procedure[Status]:
        status = yield from self.zlib.deflate(self.stream, 1)
        yield from self.zlib.end(self.stream)
        return status


def consume_credits(system: System, lpar: str, count: int, selector: Selector, source: bytes) -> list[Child]:
    """So many children, begun one after the other, oldest first."""
    return [Child(system, lpar, selector, source) for _ in range(count)]
