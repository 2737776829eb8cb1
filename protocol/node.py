"""The shell around every server's core: one loop, one thread, plain sockets.

A turn: wait, drain the sockets into the core, let it tick, commit what it wants stored, and only then send. Where the
role has work of its own (the gzip engine), one piece of it is done per turn.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Protocol

import structlog
import zmq

from protocol.codes import ExitCode
from protocol.effects import Core, Dial, Effects, Exit, Hangup, Send
from protocol.link import LINKS, MEBIBYTE, TELEMETRY
from protocol.socket import NodeSocket, Unreachable, remove_stale_socket
from protocol.wire import Envelope, WireError, decode, encode

Handler = Callable[[int, FrameType | None], object] | int | None
"""What Python's signal module takes and returns as a handler."""
IDLE_WAIT_US = 1_000_000
CONGESTED_WAIT_US = 2_000
REFUSALS_LOGGED_PER_TURN = 1
PAUSED_US = 2 * IDLE_WAIT_US
"""A turn that comes this late means that the process was paused or the disk stalled."""
CATCH_UP_US = 500_000
CATCH_UP_QUIET_MS = 50
"""After a pause the node reads until nothing comes for so long, CATCH_UP_US at most, before the core judges silence."""


class StoreError(Exception):
    """The ledger could not be read or written."""


class Store(Protocol):
    """Where a core's writes go. One call is one transaction."""

    def commit(self, writes: Sequence[object]) -> None:
        """Store all or nothing, durably. Raises StoreError."""


def run_node(
    core: Core,
    listen: Mapping[str, str],
    memory_mb: int,
    store: Store | None = None,
    publish: str | None = None,
    work: Callable[[], bool] | None = None,
) -> Exit:
    """Run a core as this process until it ends, under a ceiling of memory; says how it ended.

    That is ADDRESS_IN_USE where somebody else listens at one of the endpoints. Raises zmq.ZMQError where an endpoint
    cannot be bound for another reason.
    """
    limit_memory(memory_mb)
    try:
        node = Node(core, listen, store=store, publish=publish, work=work)
    except zmq.ZMQError as error:
        if error.errno != zmq.EADDRINUSE:
            raise
        endpoints = ", ".join([*listen.values(), *([publish] if publish else [])])
        return Exit(ExitCode.ADDRESS_IN_USE, f"another process listens at one of {endpoints}")
    return node.run()


def limit_memory(memory_mb: int) -> None:
    """Cap this process's data segment, never above a cap it has: an endless message has no other bound in libzmq."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = memory_mb * MEBIBYTE
    if hard != resource.RLIM_INFINITY:
        ceiling = min(ceiling, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))


def monotonic_us() -> int:
    """The clock of every server."""
    return time.monotonic_ns() // 1000


class Node:
    """Runs a core until it asks to exit.

    `listen` names an endpoint per link; `publish` is the telemetry endpoint; `work` does one piece of the role's own
    work and says whether there is more.
    """

    def __init__(
        self,
        core: Core,
        listen: Mapping[str, str],
        store: Store | None = None,
        publish: str | None = None,
        work: Callable[[], bool] | None = None,
        clock: Callable[[], int] = monotonic_us,
    ) -> None:
        self.core = core
        self.store = store
        self.work = work
        self.clock = clock
        self.log = structlog.get_logger()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.poller = zmq.Poller()
        self.sockets: dict[str, NodeSocket] = {}
        self.publisher: zmq.Socket[bytes] | None = None
        self._alarm_read, self._alarm_write = os.pipe()
        os.set_blocking(self._alarm_read, False)
        os.set_blocking(self._alarm_write, False)
        self._stops = 0
        self._stopping = False
        self._busy = False
        self._ticked_us = 0
        self._closed = False
        try:
            for link, endpoint in listen.items():
                self._own(link, NodeSocket.listen(self.context, LINKS[link], endpoint))
            if publish is not None:
                self.publisher = self.context.socket(zmq.PUB)
                self.publisher.setsockopt(zmq.LINGER, 0)
                self.publisher.setsockopt(zmq.SNDHWM, TELEMETRY.high_water_mark)
                remove_stale_socket(publish)
                self.publisher.bind(publish)
        except zmq.ZMQError:
            self.close()
            raise
        self.poller.register(self._alarm_read, zmq.POLLIN)

    def run(self) -> Exit:
        """Turn until the core exits or the store fails.

        SIGTERM and SIGINT stop it in order, a second one at once; in a thread of its own it does not hear them.
        """
        before = self._catch_signals()
        try:
            self._ticked_us = self.clock()
            self.core.start(self._ticked_us)
            while True:
                ending = self._turn()
                if ending is not None:
                    return ending
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.close()

    def close(self) -> None:
        """Close every socket; messages still queued are gone."""
        if self._closed:
            return
        self._closed = True
        for socket in self.sockets.values():
            socket.close()
        if self.publisher is not None:
            self.publisher.close(linger=0)
        self.context.term()
        os.close(self._alarm_read)
        os.close(self._alarm_write)

    def _turn(self) -> Exit | None:
        ending = self._settle(self.core.effects.take())
        if ending is not None:
            return ending
        self._poll(self._wait_ms())
        if self._stops > 1:
            return Exit(ExitCode.OK, "stopped at the second signal")
        if self._stops and not self._stopping:
            self._stopping = True
            self.core.stop(self.clock())
        self._drain_all()
        if self.clock() - self._ticked_us > PAUSED_US:
            self._catch_up()
        self._ticked_us = self.clock()
        self.core.tick(self._ticked_us)
        ending = self._settle(self.core.effects.take())
        if ending is not None:
            return ending
        self._busy = self.work() if self.work is not None else False
        return None

    def _poll(self, wait_ms: int) -> bool:
        """Wait for a message or a signal; whether something came."""
        ready = self.poller.poll(wait_ms)
        if any(number == self._alarm_read for number, _ in ready):
            os.read(self._alarm_read, 64)
        return bool(ready)

    def _drain_all(self) -> None:
        for link, socket in list(self.sockets.items()):
            self._drain(link, socket)

    def _catch_up(self) -> None:
        """What peers said during our own pause is read before the core takes their silence for death."""
        until_us = self.clock() + CATCH_UP_US
        while self._poll(CATCH_UP_QUIET_MS) and self.clock() < until_us:
            self._drain_all()

    def _drain(self, link: str, socket: NodeSocket) -> None:
        refused = 0
        for peer, frames in socket.receive():
            try:
                envelope = decode(frames, socket.vocabulary)
            except WireError as error:
                refused += 1
                if refused <= REFUSALS_LOGGED_PER_TURN:
                    self.log.warning("message_refused", link=link, reason=str(error))
                if socket.is_router:
                    self._transmit(Send(link, peer, Envelope(error.refusal, error.epoch, error.number)))
                continue
            self.core.receive(link, peer, envelope, self.clock())
        for peer in socket.flush():
            self.core.unreachable(link, peer, self.clock())

    def _settle(self, effects: Effects) -> Exit | None:
        """Commit, then send; say how to end, if the core or a failure wants that.

        A failed commit discards the sends: nobody is told what was not stored.
        """
        for line in effects.log:
            getattr(self.log, line.level)(line.event, **line.facts)
        if effects.writes:
            assert self.store is not None, "a core that writes needs a store"
            try:
                self.store.commit(effects.writes)
            except StoreError as error:
                return Exit(ExitCode.STORE, str(error))
        for transmission in effects.transmissions:
            self._transmit(transmission)
        if self.publisher is not None:
            for envelope in effects.published:
                self.publisher.send_multipart(encode(envelope), zmq.NOBLOCK)
        return effects.exit

    def _transmit(self, transmission: Send | Dial | Hangup) -> None:
        link = transmission.link
        if isinstance(transmission, Send):
            socket = self.sockets.get(link)
            if socket is None:
                return
            try:
                socket.send(transmission.peer, encode(transmission.envelope))
            except Unreachable:
                self.core.unreachable(link, transmission.peer, self.clock())
            return
        old = self.sockets.pop(link, None)
        if old is not None:
            self.poller.unregister(old.zmq)
            old.close()
        if isinstance(transmission, Dial):
            try:
                self._own(link, NodeSocket.dial(self.context, LINKS[link], transmission.endpoint))
            except zmq.ZMQError as error:
                self.log.error("dial_failed", link=link, endpoint=transmission.endpoint, reason=str(error))

    def _own(self, link: str, socket: NodeSocket) -> None:
        self.sockets[link] = socket
        self.poller.register(socket.zmq, zmq.POLLIN)

    def _wait_ms(self) -> int:
        """How long to sleep: not at all where work, unread messages or wishes of the core wait."""
        wishes = self.core.effects
        if self._busy or wishes.transmissions or wishes.writes or wishes.exit is not None:
            return 0
        if any(socket.readable for socket in self.sockets.values()):
            return 0
        wake_us = self.core.wake_us()
        wait_us = IDLE_WAIT_US if wake_us is None else wake_us - self.clock()
        if any(socket.has_waiting for socket in self.sockets.values()):
            wait_us = min(wait_us, CONGESTED_WAIT_US)
        return max(0, min(-(-wait_us // 1000), IDLE_WAIT_US // 1000))

    def _catch_signals(self) -> dict[signal.Signals, Handler]:
        """Count the stops from now on. Returns the handlers there were before."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stops += 1
            os.write(self._alarm_write, b"!")

        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
