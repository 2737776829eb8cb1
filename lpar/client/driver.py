"""Runs a client's procedures on blocking threads.

There is no thread of its own: of the threads that wait, one leads, that is, polls the sockets for all of them. The
others sleep until their procedure has moved, or until the leader leaves and one of them takes over.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import zmq

from lpar.client.core import ClientCore
from lpar.client.errors import ForkedProcess
from lpar.client.interrupts import Interrupts
from lpar.client.links import dial_failure, link_of, no_connection
from lpar.client.runner import Trace
from lpar.client.steps import Depart, Procedure, now
from lpar.client.tasks import Task
from protocol.clock import SECOND_US
from protocol.curve import KeyRefused
from protocol.effects import DIALLED, Dial, Hangup, Send
from protocol.key_source import KeySource
from protocol.keys import KeysError
from protocol.socket import Connections
from protocol.wire import Envelope, WireError, decode, encode

T = TypeVar("T")
IDLE_WAIT_MS = 1_000
CONGESTED_WAIT_MS = 2
BYE_WAIT_US = 1 * SECOND_US


def monotonic_us() -> int:
    """The clock of every client."""
    return time.monotonic_ns() // 1000


class Driver:
    """The sockets, clock and threads of a client core.

    What the kernel asks of the process (a status block to write, a signal) is done by the leading thread. While no
    thread waits for anything nobody reads it: the kernel repeats it, and the next call's thread finds it waiting.

    `on_message` is called in whatever thread leads, while all others are held up: it must be quick and must not
    call back into the client.
    """

    def __init__(self, core: ClientCore, on_message: Trace | None = None, keys: KeySource | None = None) -> None:
        self.core = core
        self.on_message = on_message
        self.discarded = 0
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._interrupts = Interrupts(self._wake)
        self._leader: Task[Any] | None = None
        self._leaderless = threading.Event()
        self._leaderless.set()
        self._followers: dict[int, tuple[Task[Any], threading.Event]] = {}
        self._closed = False
        self._connections = Connections(self, keys)
        self._poller = zmq.Poller()
        self._wake_read, self._wake_write = os.pipe()
        self._close_pipe = weakref.finalize(self, _close_pipe, self._wake_read, self._wake_write)
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller.register(self._wake_read, zmq.POLLIN)
        core.start(monotonic_us())

    def run(self, procedure: Procedure[T]) -> T:
        """Run a procedure to its end in the calling thread. Raises what it raises, LparClosed, ForkedProcess."""
        try:
            self._check_process()
        except ForkedProcess:
            procedure.close()
            raise
        task = Task(procedure)
        with self._interrupts:
            try:
                with self._guard:
                    self.core.submit(task, monotonic_us())
                    self._core_moved()
                while not task.done:
                    self._wait(task)
                return task.outcome()
            finally:
                self._leave(task)

    def inspect(self, look: Callable[[], T]) -> T:
        """Read something of the core while no thread changes it. Raises ForkedProcess."""
        self._check_process()
        with self._guard:
            return look()

    def close(self) -> None:
        """Say BYE, wait for the answer up to a second, close the sockets. Calls of other threads get LparClosed.

        In a forked child it does nothing: the sockets are the parent's.
        """
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        try:
            if not self.core.closed:
                self.run(_depart())
        finally:
            with self._interrupts:
                with self._guard:
                    self.core.stop(monotonic_us())
                    self._core_moved()
                self._leaderless.wait()
                with self._guard:
                    self._release()

    def _check_process(self) -> None:
        """In a forked child nothing here may be touched: a thread of the parent may have held the guard."""
        if os.getpid() != self._pid:
            raise ForkedProcess(f"this Lpar belongs to process {self._pid}; make one in this process")

    def _wait(self, task: Task[Any]) -> None:
        """Compute what the task asks for, or lead, or sleep until something has happened."""
        event: threading.Event | None = None
        with self._guard:
            if task.done:
                return
            work = task.work
            if work is None and self._leader is None:
                self._leader = task
                self._leaderless.clear()
            elif work is None:
                _task, event = self._followers.setdefault(id(task), (task, threading.Event()))
                event.clear()
        if work is not None:
            self._compute(task, work)
        elif event is not None:
            with self._interrupts.allowed():
                event.wait()
        else:
            self._lead(task)

    def _compute(self, task: Task[Any], work: Callable[[], object]) -> None:
        value, error = None, None
        try:
            with self._interrupts.allowed():
                value = work()
        # The procedure decides what a failed computation means.
        except Exception as raised:
            error = raised
        with self._guard:
            self.core.computed(task, value, error, monotonic_us())
            self._core_moved()

    def _lead(self, task: Task[Any]) -> None:
        """Serve every thread until this one's task has moved."""
        while not task.done and task.work is None:
            with self._guard:
                self._transmit()
                wait_ms = self._wait_ms()
            self._poller.poll(wait_ms)
            self._interrupts.check()
            with self._guard:
                self._drain()
                self.core.tick(monotonic_us())
                self._transmit()
                self._notify()
        with self._guard:
            self._resign(task)

    def _leave(self, task: Task[Any]) -> None:
        """The calling thread goes: nothing may be left that only it would have done."""
        with self._guard:
            if not task.done:
                self.core.cancel(task, monotonic_us())
            self._followers.pop(id(task), None)
            self._resign(task)
            self._core_moved()

    def _resign(self, task: Task[Any]) -> None:
        """Stop leading; somebody who sleeps takes over."""
        if self._leader is task:
            self._leader = None
            self._leaderless.set()
        if self._leader is None:
            for follower, event in self._followers.values():
                if not follower.done and follower.work is None:
                    event.set()
                    return

    def _core_moved(self) -> None:
        """A thread changed the core: the leader learns of it, or what is to be sent is sent at once."""
        self._notify()
        if self._leader is None:
            self._transmit()
            return
        self._wake()

    def _wake(self) -> None:
        # A full pipe is full of wake-ups that the leader has not read yet.
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def _notify(self) -> None:
        """Rouse the threads whose tasks have ended or want something computed."""
        stirred, self.core.scheduler.stirred = self.core.scheduler.stirred, []
        for task in stirred:
            follower = self._followers.get(id(task))
            if follower is not None:
                follower[1].set()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for key, socket in list(self._connections.sockets.items()):
            for _peer, frames in socket.receive():
                try:
                    envelope = decode(frames, socket.vocabulary)
                except WireError:
                    self.discarded += 1
                    continue
                self._trace("received", key, envelope)
                self.core.receive(key, DIALLED, envelope, monotonic_us())
            socket.flush()

    def _transmit(self) -> None:
        if self._connections.context.closed:
            return
        while wishes := self.core.effects.take().transmissions:
            for wish in wishes:
                if isinstance(wish, Send):
                    socket = self._connections.sockets.get(wish.link)
                    if socket is not None:
                        self._trace("sent", wish.link, wish.envelope)
                        try:
                            socket.send(wish.peer, encode(wish.envelope))
                        except KeyRefused as error:
                            failure = no_connection(error)
                            self.core.shut_out(wish.link, failure, monotonic_us(), definite=error.definite)
                elif isinstance(wish, Dial):
                    self._dial(wish)
                elif isinstance(wish, Hangup):
                    self._hang_up(wish.link)

    def _dial(self, wish: Dial) -> None:
        self._hang_up(wish.link)
        try:
            socket = self._connections.dial(wish.link, link_of(wish.link), wish.endpoint, wish.listener)
        except (zmq.ZMQError, KeysError) as error:
            self.core.undialable(wish.link, dial_failure(wish.endpoint, error), monotonic_us())
            return
        self._poller.register(socket.zmq, zmq.POLLIN)

    def _hang_up(self, key: str) -> None:
        socket = self._connections.sockets.get(key)
        if socket is not None:
            self._poller.unregister(socket.zmq)
            self._connections.hang_up(key)

    def _wait_ms(self) -> int:
        if any(socket.readable for socket in self._connections.sockets.values()):
            return 0
        wake_us = self.core.wake_us()
        wait_ms = IDLE_WAIT_MS if wake_us is None else -(-(wake_us - monotonic_us()) // 1000)
        if any(socket.has_waiting for socket in self._connections.sockets.values()):
            wait_ms = min(wait_ms, CONGESTED_WAIT_MS)
        return max(0, min(wait_ms, IDLE_WAIT_MS))

    def _trace(self, direction: str, key: str, envelope: Envelope) -> None:
        if self.on_message is None:
            return
        try:
            self.on_message(direction, key, envelope)
        # Raised here it would end another thread's call: the hook is dropped and its author told.
        except Exception as error:
            self.on_message = None
            warnings.warn(f"on_message was dropped, it raised {error!r}", RuntimeWarning, stacklevel=2)

    def _release(self) -> None:
        self._connections.close()
        self._close_pipe()


def _close_pipe(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _depart() -> Procedure[bool]:
    moment_us = yield from now()
    answered: bool = yield Depart(moment_us + BYE_WAIT_US)
    return answered
