"""Procedures under way: each is advanced when the step it waits for is done, fails or runs out of time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from lpar.client.steps import Procedure, Step
from lpar.client.timers import Timer, Timers
from protocol.message import Request

T = TypeVar("T")


class Waiting:
    """What a step that cannot be finished at once gives instead of its result."""


WAITING: Final = Waiting()


@dataclass(slots=True, eq=False)
class Task(Generic[T]):
    """A procedure and what it waits for.

    `work` is set while it waits for the driver to compute something; `unhook` removes it from wherever it waits;
    `undo` is the call to make if it is cancelled, with the session it is for.
    """

    procedure: Procedure[T]
    done: bool = False
    result: T | None = None
    error: BaseException | None = None
    work: Callable[[], object] | None = None
    timer: Timer | None = None
    unhook: Callable[[], None] | None = None
    undo: tuple[Request, int] | None = None

    def outcome(self) -> T:
        """What the procedure returned; raises what it raised."""
        assert self.done
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # a procedure that ended without an error has returned a T


@dataclass(slots=True)
class _Ready:
    task: Task[Any]
    value: object
    error: BaseException | None


class Scheduler:
    """Advances tasks. `begin(task, step, now_us)` gives a step's result, or WAITING and calls `resume` later."""

    def __init__(self, timers: Timers, begin: Callable[[Task[Any], Step, int], object]) -> None:
        self.timers = timers
        self.begin = begin
        self.tasks: dict[int, Task[Any]] = {}
        self.stirred: list[Task[Any]] = []
        self._ready: deque[_Ready] = deque()

    def submit(self, task: Task[Any]) -> None:
        """Take a procedure in; `run` starts it."""
        self.tasks[id(task)] = task
        self._ready.append(_Ready(task, None, None))

    def resume(self, task: Task[Any], value: object = None, error: BaseException | None = None) -> None:
        """The step is done or has failed; `run` goes on with the procedure."""
        self._detach(task)
        self._ready.append(_Ready(task, value, error))

    def expire(self, task: Task[Any], due_us: int, awaited: str) -> None:
        """Let the task's step fail with TimeoutError at `due_us`."""
        task.timer = self.timers.at(due_us, lambda _now_us: self.resume(task, error=TimeoutError(awaited)))

    def cancel(self, task: Task[Any]) -> None:
        """The caller gave the procedure up; its `finally` clauses run now."""
        self._detach(task)
        task.procedure.close()
        self._end(task)

    def run(self, now_us: int) -> None:
        """Advance every procedure that can go on, until each waits for something."""
        while self._ready:
            ready = self._ready.popleft()
            if not ready.task.done:
                self._advance(ready.task, ready.value, ready.error, now_us)

    def _advance(self, task: Task[Any], value: object, error: BaseException | None, now_us: int) -> None:
        while True:
            try:
                step = task.procedure.send(value) if error is None else task.procedure.throw(error)
            except StopIteration as end:
                task.result = end.value
                self._end(task)
                return
            # Whatever a procedure raises is its caller's, not of the thread that happens to carry out its step.
            except Exception as raised:
                task.error = raised
                self._end(task)
                return
            value, error = None, None
            try:
                value = self.begin(task, step, now_us)
            except Exception as raised:
                error = raised
            if value is WAITING:
                if task.work is not None:
                    self.stirred.append(task)
                return

    def _detach(self, task: Task[Any]) -> None:
        self.timers.cancel(task.timer)
        unhook, task.unhook, task.timer, task.work = task.unhook, None, None, None
        if unhook is not None:
            unhook()

    def _end(self, task: Task[Any]) -> None:
        task.done = True
        self.tasks.pop(id(task), None)
        self.stirred.append(task)
