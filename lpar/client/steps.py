"""Procedures: what a client does, written as generators that do no input or output.

A procedure yields steps and is sent each step's result; the core carries the steps out. The same procedures serve
threads, asyncio and the simulator. Every step that can wait has a deadline: `TimeoutError` is raised in the
procedure when it passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from lpar.client.request import Request
from protocol.message import PasteAddress, Reply
from protocol.message import Request as Message

if TYPE_CHECKING:
    from lpar.client.pastes import PendingPaste
    from lpar.client.tasks import Task

T = TypeVar("T")
R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, slots=True)
class Now:
    """What time is it? The result is in microseconds."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Go on at `until_us`."""

    until_us: int


@dataclass(frozen=True, slots=True)
class Compute:
    """Long work that needs nothing of the core: a codec's. The driver decides where it runs."""

    work: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Call:
    """A system call. `epoch` is the session that the descriptor belongs to (None: any); the result is an `Answer`."""

    body: Message
    epoch: int | None
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The kernel's reply and the session it belongs to."""

    reply: Reply
    epoch: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Copy and paste. The result is a `PendingPaste` that is accepted, refused, faulted or already complete."""

    address: PasteAddress
    request: Request
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for the CSB of an accepted paste. The result is the same `PendingPaste`, settled.

    `keep`: after a deadline or a cancellation the CSB is still wanted, because somebody may wait again.
    """

    pending: PendingPaste
    deadline_us: int
    keep: bool


@dataclass(frozen=True, slots=True)
class Acquire:
    """Wait for a mutex; give it back with `mutex.release()` in a `finally`."""

    mutex: Mutex
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Wait for a session with the partition's kernel; `renew` starts a new one if the last has died."""

    renew: bool
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Depart:
    """Say BYE and wait for its answer; the result says whether it came."""

    deadline_us: int


@dataclass(frozen=True, slots=True)
class IfCancelled:
    """Until further notice: when the caller gives this procedure up, this call is to be made (None: nothing)."""

    body: Message | None


Step = Now | Sleep | Compute | Call | Submit | Await | Acquire | Connect | Depart | IfCancelled
Procedure = Generator[Step, Any, T]


@dataclass(slots=True)
class Mutex:
    """One procedure at a time, in order of asking."""

    holder: Task[Any] | None = None
    waiting: deque[Task[Any]] = field(default_factory=deque)
    grant: Callable[[Task[Any]], None] | None = None

    def release(self) -> None:
        """Give it to the next in line."""
        self.holder = self.waiting.popleft() if self.waiting else None
        if self.holder is not None and self.grant is not None:
            self.grant(self.holder)


def now() -> Procedure[int]:
    """The time in microseconds."""
    moment: int = yield Now()
    return moment


def pause(wait_us: int) -> Procedure[None]:
    """Do nothing for a while."""
    moment = yield from now()
    yield Sleep(moment + wait_us)


def compute(work: Callable[[], T]) -> Procedure[T]:
    """Run a codec outside the core."""
    result: T = yield Compute(work)
    return result
