"""Processes that a test speaks through: a client of a partition, and a console."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from hmc.requests import ConsoleRequests, NotKnown
from lpar.client.core import ClientCore
from lpar.client.runner import Trace
from lpar.client.steps import Procedure
from lpar.client.tasks import Task
from protocol.message import Reply, Request
from protocol.session_messages import Refused
from tests.system.watching import Killed, StepKind

if TYPE_CHECKING:
    from tests.system.system import Host, System

T = TypeVar("T")


class ProcessKilled(Exception):
    """The process that was to do this does not exist any more."""


class ClientHost:
    """A client process: runs the procedures of the client library on the simulated system."""

    on_message: Trace | None = None

    def __init__(self, system: System, lpar: str) -> None:
        self.system = system
        name = f"client-{system.next_pid()}"
        pid = system.next_pid()
        endpoint = system.addresses.device[lpar]
        self.core = ClientCore(endpoint, name, "local", pid, system.random.randbytes)
        self.host = system.start("client", name, self.core, {})

    def run(self, procedure: Procedure[T]) -> T:
        """Let the whole system run until the procedure has ended. Raises ProcessKilled where the process dies first."""
        task: Task[T] = Task(procedure)
        with suppress(Killed):
            self.system.step(self.host, StepKind.INPUT, "call")
            self.core.submit(task, self.system.now_us)
            self._compute()
            self.system.settle(self.host)

        def ended() -> bool:
            self._compute()
            return task.done or not self.host.alive

        self.system.run_until(ended)
        if not task.done:
            raise ProcessKilled(self.host.name)
        return task.outcome()

    def inspect(self, look: Callable[[], T]) -> T:
        return look()

    def close(self) -> None:
        """Exit without a word, as a process that ends does: its connection breaks."""
        if self.host.alive:
            self.system.kill(self.host.name)

    def _compute(self) -> None:
        while self.host.alive and self.core.scheduler.stirred:
            stirred, self.core.scheduler.stirred = self.core.scheduler.stirred, []
            for task in stirred:
                if task.work is not None:
                    value, error = _attempt(task.work)
                    self.core.computed(task, value, error, self.system.now_us)
            self.system.settle(self.host)


class ConsoleHost:
    """A console that waits for its answers on the virtual clock."""

    def __init__(self, system: System, host: Host) -> None:
        self.system = system
        self.host = host

    def ask(self, request: Request) -> Reply | Refused:
        """Raises ProcessKilled where the console dies before its answer has come."""
        core: ConsoleRequests = self.host.core
        number = 0
        with suppress(Killed):
            self.system.step(self.host, StepKind.INPUT, "call")
            number = core.ask(request, self.system.now_us)
            self.system.settle(self.host)
        self.system.run_until(lambda: number in core.answers or core.ended is not None or not self.host.alive)
        if number not in core.answers and core.ended is None:
            raise ProcessKilled(self.host.name)
        return core.ended or as_reply(core.answers.pop(number))

    def close(self) -> None:
        """Exit without a word."""
        if self.host.alive:
            self.system.kill(self.host.name)


def _attempt(work: Callable[[], object]) -> tuple[object, BaseException | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def as_reply(outcome: Reply | Refused | NotKnown) -> Reply | Refused:
    """What a console was told; where it learned that nothing is known, why its session was over."""
    return outcome.refusal if isinstance(outcome, NotKnown) else outcome
