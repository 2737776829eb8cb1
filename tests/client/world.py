"""A world without sockets: one client core, a pretended kernel and two pretended NX units on a virtual clock.

Messages take 50 us, and are lost or repeated as often as the test asks for. They go through the wire codec.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeVar

from lpar.client.core import ClientCore
from lpar.client.links import DEVICE_KEY, link_of
from lpar.client.process import Lpar
from lpar.client.runner import Trace
from lpar.client.steps import Depart, Procedure, now
from lpar.client.tasks import Task
from protocol.effects import DIALLED, Dial, Hangup, Send
from protocol.link import DEVICE, PASTE
from protocol.message import Message
from protocol.wire import Envelope, decode, encode
from tests.client.kernel import FakeKernel
from tests.client.unit import FakeUnit

T = TypeVar("T")
LATENCY_US = 50
TURNS_LIMIT = 200_000
KERNEL_ENDPOINT = "ipc://kernel"


class World:
    """Drives a client core the way a driver does. `run`, `inspect` and `close` make it a Runner."""

    def __init__(self, seed: int = 0, loss: float = 0.0, repeat: float = 0.0, network: str = "local") -> None:
        self.random = Random(seed)
        self.loss, self.repeat = loss, repeat
        self.now_us = 1_000_000
        self.on_message: Trace | None = None
        self.sent: list[Envelope] = []
        self.dialled: list[str] = []
        self.hung_up: list[str] = []
        self.before_delivery: Callable[[str, Envelope], None] = lambda _key, _envelope: None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._connections: dict[str, bytes] = {}
        self.units = {f"nx{number}": self._unit(f"nx{number}") for number in range(2)}
        self.kernel = FakeKernel(list(self.units.values()), self.random.randbytes, later=self.later)
        for unit in self.units.values():
            unit.on_fault = self.kernel.page_fault
        self.core = ClientCore(KERNEL_ENDPOINT, "client-1", network, 1234, self.random.randbytes)
        self.core.start(self.now_us)
        self._settle()

    def lpar(self, timeout: float = 30.0) -> Lpar:
        """The public interface on this world."""
        return Lpar.on(self, timeout)

    @property
    def nx0(self) -> FakeUnit:
        return self.units["nx0"]

    @property
    def nx1(self) -> FakeUnit:
        return self.units["nx1"]

    def run(self, procedure: Procedure[T]) -> T:
        """Let things happen until the procedure has ended."""
        return self.finish(self.start(procedure))

    def start(self, procedure: Procedure[T]) -> Task[T]:
        task = Task(procedure)
        self.core.submit(task, self.now_us)
        self._settle()
        return task

    def finish(self, task: Task[T]) -> T:
        for _ in range(TURNS_LIMIT):
            if task.done:
                return task.outcome()
            self.turn()
        raise AssertionError(f"no end in {TURNS_LIMIT} turns")

    def inspect(self, look: Callable[[], T]) -> T:
        return look()

    def close(self) -> None:
        if not self.core.closed:
            self.run(_depart())
            self.core.stop(self.now_us)
            self._settle()

    def turn(self) -> None:
        """The next thing that happens."""
        first = self._events[0][0] if self._events else None
        moments = [self.core.wake_us(), self.kernel.listener.wake_us(), first]
        due = [moment for moment in moments if moment is not None]
        assert due, "nothing will ever happen"
        self.now_us = max(self.now_us, min(due))
        if self._events and self._events[0][0] <= self.now_us:
            heappop(self._events)[2]()
        self.core.tick(self.now_us)
        self.kernel.tick(self.now_us)
        self._settle()

    def pass_time(self, wait_us: int) -> None:
        """Let everything happen that happens within a while."""
        until_us = self.now_us + wait_us
        self.later(wait_us, lambda: None)
        while self.now_us < until_us:
            self.turn()

    def later(self, wait_us: int, action: Callable[[], None]) -> None:
        heappush(self._events, (self.now_us + wait_us, next(self._order), action))

    def sent_of(self, kind: type[Message]) -> list[Envelope]:
        """Messages of a type that the client sent."""
        return [envelope for envelope in self.sent if isinstance(envelope.body, kind)]

    def _unit(self, name: str) -> FakeUnit:
        def answer(peer: bytes, envelope: Envelope) -> None:
            self._to_client(f"paste:ipc://{name}", peer, envelope)

        return FakeUnit(name, answer, self.later)

    def _settle(self) -> None:
        """Carry out what the client and the kernel want, until neither wants anything."""
        while True:
            wishes = self.core.effects.take().transmissions
            for wish in wishes:
                self._carry_out(wish)
            sends = self.kernel.take()
            for send in sends:
                self._to_client(DEVICE_KEY, send.peer, send.envelope)
            stirred, self.core.scheduler.stirred = self.core.scheduler.stirred, []
            for task in stirred:
                self._compute(task)
            if not wishes and not sends and not stirred:
                return

    def _compute(self, task: Task[Any]) -> None:
        if task.work is None:
            return
        value, error = None, None
        try:
            value = task.work()
        except Exception as raised:
            error = raised
        self.core.computed(task, value, error, self.now_us)

    def _carry_out(self, wish: Send | Dial | Hangup) -> None:
        if isinstance(wish, Dial):
            self.dialled.append(wish.endpoint)
            self._connections[wish.link] = self.random.randbytes(5)
        elif isinstance(wish, Hangup):
            self.hung_up.append(wish.link)
            self._connections.pop(wish.link, None)
        elif wish.link in self._connections:
            self._to_server(wish.link, wish.envelope)

    def _to_server(self, key: str, envelope: Envelope) -> None:
        self.sent.append(envelope)
        peer = self._connections[key]
        vocabulary = link_of(key).up
        frames = encode(envelope)

        def deliver() -> None:
            arrived = decode(frames, vocabulary)
            self.before_delivery(key, arrived)
            if key == DEVICE_KEY:
                if not self.kernel.mute:
                    self.kernel.receive(peer, arrived, self.now_us)
            else:
                self.units[key.removeprefix("paste:ipc://")].receive(peer, arrived)

        self._deliver(deliver)

    def _to_client(self, key: str, peer: bytes, envelope: Envelope) -> None:
        frames = encode(envelope)
        vocabulary = (DEVICE if key == DEVICE_KEY else PASTE).down

        def deliver() -> None:
            if self._connections.get(key) == peer:
                self.core.receive(key, DIALLED, decode(frames, vocabulary), self.now_us)
                self._settle()

        self._deliver(deliver)

    def _deliver(self, deliver: Callable[[], None]) -> None:
        if self.random.random() < self.loss:
            return
        self.later(LATENCY_US, deliver)
        if self.random.random() < self.repeat:
            self.later(LATENCY_US, deliver)


def _depart() -> Procedure[bool]:
    moment_us = yield from now()
    answered: bool = yield Depart(moment_us + 1_000_000)
    return answered
