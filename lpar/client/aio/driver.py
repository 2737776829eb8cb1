"""Runs a client's procedures on an event loop: plain sockets, one timer, and codecs in the loop's executor.

Everything of the core happens in the loop's thread. A procedure costs its caller one future, which is done when the
procedure is; the steps in between do not pass through asyncio.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import zmq

from lpar.client.aio.runner import Undo
from lpar.client.aio.sockets import LoopSockets
from lpar.client.core import ClientCore
from lpar.client.driver import BYE_WAIT_US
from lpar.client.errors import ForkedProcess
from lpar.client.links import dial_failure, no_connection
from lpar.client.runner import Trace
from lpar.client.steps import Depart, Procedure, now
from lpar.client.tasks import Task
from protocol.clock import SECOND_US
from protocol.curve import KeyRefused
from protocol.effects import DIALLED, Dial, Hangup, Send
from protocol.key_source import KeySource
from protocol.keys import KeysError
from protocol.link import Vocabulary
from protocol.wire import Envelope, WireError, decode, encode

T = TypeVar("T")


class Driver:
    """The sockets, clock and callers of a client core on the event loop in which `start` was called.

    `on_message` is called in the loop: it must be quick and must not call back into the client.
    """

    def __init__(self, core: ClientCore, on_message: Trace | None = None, keys: KeySource | None = None) -> None:
        self.core = core
        self._keys = keys
        self.on_message = on_message
        self.discarded = 0
        self._pid = os.getpid()
        self._guard = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sockets: LoopSockets | None = None
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._jobs: dict[int, asyncio.Future[object]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = 0
        self._closing = False
        self._released = asyncio.Event()

    async def start(self) -> None:
        """Dial the partition's kernel from the running loop. A second call does nothing. Raises ForkedProcess."""
        self._check_process()
        if self._loop is None and not self.core.closed:
            self._loop = asyncio.get_running_loop()
            self._sockets = LoopSockets(self, self._loop, self._arrived, self._tick, self._keys)
            # What this wants is carried out by the first call, which then hears of an endpoint that is none.
            self.core.start(self._now_us())

    async def run(self, procedure: Procedure[T], undo: Undo | None = None, *, finish: bool = False) -> T:
        """Run a procedure to its end. Raises what it raises, LparClosed, ForkedProcess, RuntimeError (another loop).

        When the caller is cancelled the procedure is too; with `finish` it goes on by itself. A result that came in
        the moment of cancellation is handed to `undo`. Every call gives other tasks of the loop a turn.
        """
        try:
            loop = self._own_loop()
        except BaseException:
            procedure.close()
            raise
        task = Task(procedure)
        waiter: asyncio.Future[None] = loop.create_future()
        with self._guard:
            self.core.submit(task, self._now_us())
            self._waiters[id(task)] = waiter
            self._settle()
        try:
            await (asyncio.sleep(0) if waiter.done() else waiter)
        except BaseException:
            with self._guard:
                self._give_up(task, undo, finish=finish)
            raise
        return task.outcome()

    def inspect(self, look: Callable[[], T]) -> T:
        """Read something of the core while nobody changes it; from any thread. Raises ForkedProcess."""
        self._check_process()
        with self._guard:
            return look()

    async def close(self) -> None:
        """Say BYE, wait for the answer up to a second, close the sockets. Calls under way get LparClosed.

        A second caller waits until the first is done. In a forked child it does nothing: the sockets are the
        parent's. After the end of its loop it closes without a word.
        """
        if os.getpid() != self._pid:
            return
        if self._loop is None or self._loop.is_closed():
            self._end()
            return
        self._own_loop()
        if self._closing:
            await self._released.wait()
            return
        self._closing = True
        try:
            if not self.core.closed:
                await self.run(_depart())
        finally:
            self._end()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedProcess(f"this Lpar belongs to process {self._pid}; make one in this process")

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which has to be the running one. Raises ForkedProcess, RuntimeError."""
        self._check_process()
        running = asyncio.get_running_loop()
        if self._loop is None and not self.core.closed:
            raise RuntimeError("this Lpar is not open yet: expected `async with` or `await Lpar.open(endpoint)` first")
        if self._loop not in (None, running):
            raise RuntimeError(
                "this Lpar belongs to another event loop (expected the one it was opened in): make one in this loop, "
                "or use vasbus.Lpar, which threads may share"
            )
        return running

    def _now_us(self) -> int:
        """The loop's clock, so that its timers and the core's deadlines agree."""
        return 0 if self._loop is None else int(self._loop.time() * SECOND_US)

    def _give_up(self, task: Task[Any], undo: Undo | None, *, finish: bool) -> None:
        """The caller goes: nothing may be left that only it would have closed."""
        self._waiters.pop(id(task), None)
        if task.done:
            if undo is not None and task.error is None and not self.core.closed:
                self.core.submit(Task(undo(task.result)), self._now_us())
        elif not finish:
            self.core.cancel(task, self._now_us())
            job = self._jobs.pop(id(task), None)
            if job is not None:
                job.cancel()
        self._settle()

    def _arrived(self, key: str, vocabulary: Vocabulary, frames: list[bytes]) -> None:
        try:
            envelope = decode(frames, vocabulary)
        except WireError:
            self.discarded += 1
            return
        with self._guard:
            self._trace("received", key, envelope)
            self.core.receive(key, DIALLED, envelope, self._now_us())

    def _tick(self) -> None:
        with self._guard:
            self.core.tick(self._now_us())
            self._settle()

    def _ring(self) -> None:
        self._timer = None
        self._tick()

    def _settle(self) -> None:
        """Carry out what the core wants, rouse whom it has served, and set the timer."""
        self._transmit()
        stirred, self.core.scheduler.stirred = self.core.scheduler.stirred, []
        for task in stirred:
            if task.done:
                waiter = self._waiters.pop(id(task), None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            elif task.work is not None:
                self._compute(task, task.work)
        self._set_timer()

    def _compute(self, task: Task[Any], work: Callable[[], object]) -> None:
        assert self._loop is not None
        job: asyncio.Future[object]
        try:
            job = self._loop.run_in_executor(None, work)
        except RuntimeError as error:
            # The executor was shut down: the procedure hears of it like of any failed computation.
            job = self._loop.create_future()
            job.set_exception(error)
        self._jobs[id(task)] = job
        job.add_done_callback(partial(self._computed, task))

    def _computed(self, task: Task[Any], job: asyncio.Future[object]) -> None:
        if job.cancelled() or self.core.closed:
            return
        del self._jobs[id(task)]
        error = job.exception()
        with self._guard:
            self.core.computed(task, None if error else job.result(), error, self._now_us())
            self._settle()

    def _set_timer(self) -> None:
        """One timer. One that rings too early is left: it costs less than setting it anew with every call."""
        wake_us = self.core.wake_us()
        if wake_us is None or self._loop is None or (self._timer is not None and self._timer_us <= wake_us):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_us = wake_us
        self._timer = self._loop.call_at(wake_us / SECOND_US, self._ring)

    def _transmit(self) -> None:
        while wishes := self.core.effects.take().transmissions:
            for wish in wishes:
                if self._sockets is None:
                    continue
                if isinstance(wish, Send):
                    self._trace("sent", wish.link, wish.envelope)
                    try:
                        self._sockets.send(wish.link, wish.peer, encode(wish.envelope))
                    except KeyRefused as error:
                        failure = no_connection(error)
                        self.core.shut_out(wish.link, failure, self._now_us(), definite=error.definite)
                elif isinstance(wish, Dial):
                    self._dial(self._sockets, wish)
                elif isinstance(wish, Hangup):
                    self._sockets.hang_up(wish.link)

    def _dial(self, sockets: LoopSockets, wish: Dial) -> None:
        try:
            sockets.dial(wish.link, wish.endpoint, wish.listener)
        except (zmq.ZMQError, KeysError) as error:
            self.core.undialable(wish.link, dial_failure(wish.endpoint, error), self._now_us())

    def _trace(self, direction: str, key: str, envelope: Envelope) -> None:
        if self.on_message is None:
            return
        try:
            self.on_message(direction, key, envelope)
        # Raised here it would end somebody else's call: the hook is dropped and its author told.
        except Exception as error:
            self.on_message = None
            warnings.warn(f"on_message was dropped, it raised {error!r}", RuntimeWarning, stacklevel=2)

    def _end(self) -> None:
        """Stop the core and let go of the loop. A second call does nothing."""
        with self._guard:
            if not self.core.closed:
                self.core.stop(self._now_us())
            if self._loop is not None and not self._loop.is_closed():
                self._settle()
                for job in self._jobs.values():
                    job.cancel()
                if self._timer is not None:
                    self._timer.cancel()
            self._jobs.clear()
            if self._sockets is not None:
                self._sockets.close()
        self._released.set()


def _depart() -> Procedure[bool]:
    moment_us = yield from now()
    answered: bool = yield Depart(moment_us + BYE_WAIT_US)
    return answered
