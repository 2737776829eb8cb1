"""The shell around every server's core: one loop, one thread, plain sockets.

A turn: wait, drain the sockets into the core, let it tick, commit what it wants stored, and only then send. Where the
role has work of its own (the gzip engine), one piece of it is done per turn.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Protocol

import structlog
import zmq

from protocol.codes import ExitCode
from protocol.effects import Core, Dial, Effects, Exit, Hangup, Send
from protocol.link import LINKS, TELEMETRY
from protocol.socket import NodeSocket, Unreachable
from protocol.wire import Envelope, WireError, decode, encode

IDLE_WAIT_US = 1_000_000
CONGESTED_WAIT_US = 2_000
REFUSALS_LOGGED_PER_TURN = 1


class StoreError(Exception):
    """The ledger could not be read or written."""


class Store(Protocol):
    """Where a core's writes go. One call is one transaction."""

    def commit(self, writes: Sequence[object]) -> None:
        """Store all or nothing, durably. Raises StoreError."""


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
        os.set_blocking(self._alarm_write, False)
        self._stops = 0
        self._busy = False
        try:
            for link, endpoint in listen.items():
                self._own(link, NodeSocket.listen(self.context, LINKS[link], endpoint))
            if publish is not None:
                self.publisher = self.context.socket(zmq.PUB)
                self.publisher.setsockopt(zmq.LINGER, 0)
                self.publisher.setsockopt(zmq.SNDHWM, TELEMETRY.high_water_mark)
                self.publisher.bind(publish)
        except zmq.ZMQError:
            self.close()
            raise
        self.poller.register(self._alarm_read, zmq.POLLIN)

    def run(self) -> Exit:
        """Turn until the core exits or the store fails."""
        self._catch_signals()
        try:
            self.core.start(self.clock())
            while True:
                ending = self._turn()
                if ending is not None:
                    return ending
        finally:
            self.close()

    def close(self) -> None:
        """Close every socket; messages still queued are gone."""
        for socket in self.sockets.values():
            socket.close()
        if self.publisher is not None:
            self.publisher.close(linger=0)
        self.context.term()

    def _turn(self) -> Exit | None:
        ending = self._settle(self.core.effects.take())
        if ending is not None:
            return ending
        self.poller.poll(self._wait_ms())
        if self._stops:
            os.read(self._alarm_read, 64)
            if self._stops > 1:
                return Exit(ExitCode.OK, "stopped at the second signal")
            self._stops = 0
            self._first_stop()
        for link, socket in list(self.sockets.items()):
            self._drain(link, socket)
        self.core.tick(self.clock())
        ending = self._settle(self.core.effects.take())
        if ending is not None:
            return ending
        self._busy = self.work() if self.work is not None else False
        return None

    def _first_stop(self) -> None:
        self._catch_signals(second=True)
        self.core.stop(self.clock())

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
            self._own(link, NodeSocket.dial(self.context, LINKS[link], transmission.endpoint))

    def _own(self, link: str, socket: NodeSocket) -> None:
        self.sockets[link] = socket
        self.poller.register(socket.zmq, zmq.POLLIN)

    def _wait_ms(self) -> int:
        """How long to sleep: not at all where work or unread messages wait."""
        if self._busy or any(socket.readable for socket in self.sockets.values()):
            return 0
        wake_us = self.core.wake_us()
        wait_us = IDLE_WAIT_US if wake_us is None else wake_us - self.clock()
        if any(socket.has_waiting for socket in self.sockets.values()):
            wait_us = min(wait_us, CONGESTED_WAIT_US)
        return max(0, min(-(-wait_us // 1000), IDLE_WAIT_US // 1000))

    def _catch_signals(self, *, second: bool = False) -> None:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stops += 2 if second else 1
            os.write(self._alarm_write, b"!")

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
