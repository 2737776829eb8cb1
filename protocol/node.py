"""The shell around every server's core: one loop, one thread, plain sockets.

A turn: wait, drain the sockets into the core, let it tick, commit what it wants stored, and only then send. Where the
role has work of its own (the gzip engine), one piece of it is done per turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import zmq

from protocol.alarm import Alarm, Snapshots
from protocol.codes import ExitCode
from protocol.curve import KeyRefused
from protocol.effects import Core, Dial, Effects, Exit, Hangup, Peer, Send
from protocol.gate import Gate
from protocol.key_source import KeySource, keyring_of, source_of
from protocol.keys import Keyring, KeysError
from protocol.link import LINKS, TELEMETRY
from protocol.metrics import Family
from protocol.node_log import NodeLog
from protocol.node_metrics import NodeCounters
from protocol.publisher import Publisher
from protocol.refusals import RefusalCode
from protocol.shut_out import ShutOut
from protocol.socket import DRAIN_US, NodeSocket, Unreachable
from protocol.wire import Envelope, WireError, decode, encode

IDLE_WAIT_US = 1_000_000
CONGESTED_WAIT_US = 2_000
PAUSED_US = 2 * IDLE_WAIT_US
"""A turn that comes this late means that the process was paused or the disk stalled."""
CATCH_UP_US = 500_000
CATCH_UP_QUIET_MS = 50
"""After a pause the node reads until nothing comes for so long, CATCH_UP_US at most, before the core judges silence."""


class StoreError(Exception):
    """The ledger could not be read or written; `code` is how the process ends."""

    def __init__(self, text: str, code: ExitCode = ExitCode.STORE) -> None:
        super().__init__(text)
        self.code = code


class Store(Protocol):
    """Where a core's writes go. One call is one transaction."""

    def commit(self, writes: Sequence[object]) -> None:
        """Store all or nothing, durably. Raises StoreError."""


def monotonic_us() -> int:
    """The clock of every server. It goes on while the machine is suspended: so do the leases that others count."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1000


class Node:
    """Runs a core until it asks to exit.

    `listen` names an endpoint per link; `publish` is the telemetry endpoint; `work` does one piece of the role's own
    work and says whether there is more; `metrics` gives what the core counts. With `keys` tcp is for keys alone.
    """

    def __init__(
        self,
        core: Core,
        listen: Mapping[str, str],
        store: Store | None = None,
        publish: str | None = None,
        work: Callable[[], bool] | None = None,
        clock: Callable[[], int] = monotonic_us,
        metrics: Callable[[], Sequence[Family]] = tuple,
        keys: KeySource | Keyring | None = None,
    ) -> None:
        self.core = core
        self.store = store
        self.work = work
        self.clock = clock
        self.metrics = metrics
        self.log = NodeLog(clock)
        self.counters = NodeCounters()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.poller = zmq.Poller()
        self.sockets: dict[str, NodeSocket] = {}
        self.publisher: Publisher | None = None
        self.alarm = Alarm()
        self.snapshots = Snapshots(self.alarm)
        self._stopping = self._busy = self._closed = False
        self._shut_out = ShutOut()
        self._ticked_us = 0
        self.keys = source_of(keys)
        self.gate = Gate(self.context, self.keys, self.poller) if self.keys is not None else None
        keyring = keyring_of(self.keys)
        try:
            for link, endpoint in listen.items():
                self._own(link, NodeSocket.listen(self.context, LINKS[link], endpoint, keyring))
            if publish is not None:
                self.publisher = Publisher(self.context, publish, keyring)
        except zmq.ZMQError:
            self.close()
            raise
        self.poller.register(self.alarm.fileno(), zmq.POLLIN)

    def run(self) -> Exit:
        """Turn until the core exits or the store fails.

        SIGTERM and SIGINT stop it in order, a second one at once; in a thread of its own it does not hear them.
        """
        self.alarm.catch_signals()
        try:
            self._ticked_us = self.clock()
            self.core.start(self._ticked_us)
            while True:
                ending = self._turn()
                if ending is not None:
                    self.log.tell_ending(ending)
                    return ending
        finally:
            self.alarm.release_signals()
            self.close()

    def close(self) -> None:
        """Close every socket; messages still queued are gone."""
        if self._closed:
            return
        self._closed = True
        self.snapshots.close()
        for socket in self.sockets.values():
            socket.close()
        if self.publisher is not None:
            self.publisher.close()
        if self.gate is not None:
            self.gate.close()
        self.context.term()
        self.alarm.close()

    def families(self) -> list[Family]:
        """What the loop and its core have counted. Only for the loop's own thread; others ask `snapshots`."""
        dropped = {link: socket.dropped for link, socket in self.sockets.items()}
        return [*self.counters.families(dropped, self.log.suppressed_total), *self.metrics()]

    def _turn(self) -> Exit | None:
        ending = self._settle(self.core.effects.take())
        if ending is not None:
            return ending
        self._poll(self._wait_ms())
        began_us = self.clock()
        if self.alarm.stops > 1:
            return Exit(ExitCode.STOPPED_AT_ONCE, "stopped at the second signal")
        if self.alarm.stops and not self._stopping:
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
        self.counters.turns.observe(self.clock() - began_us)
        self.log.metrics_failed(self.snapshots.serve(self.families))
        return None

    def _poll(self, wait_ms: int) -> bool:
        """Wait for a message or a signal; whether something came."""
        ready = self.poller.poll(wait_ms)
        if any(number == self.alarm.fileno() for number, _ in ready):
            self.alarm.hush()
        return bool(ready)

    def _drain_all(self) -> None:
        if self.gate is not None:
            self._guard(self.gate)
        for link, socket in list(self.sockets.items()):
            self._drain(link, socket)

    def _guard(self, gate: Gate) -> None:
        """Decide who comes in, and end the connections of those whose keys have been shut out."""
        for line in gate.turn(self.clock()):
            self.log.tell(line)
        for link, peer in gate.shut_out():
            self._gone(link, peer)
        if self.publisher is not None:
            self.log.tell_any(self.publisher.admit_again(anew=gate.has_shut_out))

    def _catch_up(self) -> None:
        """What peers said during our own pause is read before the core takes their silence for death."""
        until_us = self.clock() + CATCH_UP_US
        while self._poll(CATCH_UP_QUIET_MS) and self.clock() < until_us:
            self._drain_all()

    def _drain(self, link: str, socket: NodeSocket) -> None:
        gate = self.gate if socket.guarded else None
        until_us = self.clock() + DRAIN_US
        for peer, frames in socket.receive(lambda: self.clock() >= until_us):
            if gate is not None and not gate.continues(link, peer, socket.sender):
                self._gone(link, peer)  # What had this routing id before, if anything did.
                gate.admission.estrange(link, peer, socket.sender)
                if not gate.admits(link, peer, socket.sender):
                    self.counters.refuse(link, RefusalCode.KEY)
                    continue
            try:
                envelope = decode(frames, socket.vocabulary)
                if gate is not None:
                    gate.check(link, peer, socket.sender, envelope)
            except WireError as error:
                self.log.refused(link, error)
                if socket.is_router:
                    self._transmit(Send(link, peer, Envelope(error.refusal, error.epoch, error.number)))
                else:
                    self.counters.refuse(link, error.refusal.code)
                continue
            self.counters.received(link, envelope.body)
            self.core.receive(link, peer, envelope, self.clock())
        for peer in socket.flush():
            self._gone(link, peer)

    def _settle(self, effects: Effects) -> Exit | None:
        """Commit, then send; say how to end, if the core or a failure wants that.

        A failed commit discards the sends: nobody is told what was not stored.
        """
        for line in effects.log:
            self.log.tell(line, always=effects.exit is not None)
        if effects.writes:
            assert self.store is not None, "a core that writes needs a store"
            began_us = self.clock()
            try:
                self.store.commit(effects.writes)
            except StoreError as error:
                return Exit(error.code, str(error))
            self.counters.commits.observe(self.clock() - began_us)
        for transmission in effects.transmissions:
            self._transmit(transmission)
        if self.publisher is not None:
            for envelope in effects.published:
                self.counters.sent(TELEMETRY.name, envelope.body)
                self.publisher.send(encode(envelope))
        return effects.exit or self._shut_out.ending

    def _transmit(self, transmission: Send | Dial | Hangup) -> None:
        link = transmission.link
        if isinstance(transmission, Send):
            socket = self.sockets.get(link)
            if socket is None:
                return
            self.counters.sent(link, transmission.envelope.body)
            try:
                if self.gate is not None:
                    self.gate.check_reach(link, transmission.peer, transmission.envelope.body)
                socket.send(transmission.peer, encode(transmission.envelope))
            except Unreachable:
                self._gone(link, transmission.peer)
            except KeyRefused as error:
                self.log.key_refused(link, error)
                # One that was let in once may be let in again.
                if not self.counters.has_received(link):
                    self._shut_out.hear(str(error), self.clock(), definite=error.definite)
            return
        old = self.sockets.pop(link, None)
        if old is not None:
            self.poller.unregister(old.zmq)
            self.counters.dropped[link] += old.dropped
            old.close()
        if isinstance(transmission, Dial):
            try:
                keyring = keyring_of(self.keys)
                self._own(link, NodeSocket.dial(self.context, LINKS[link], transmission.endpoint, keyring))
            except (zmq.ZMQError, KeysError) as error:
                self.log.dial_failed(link, transmission.endpoint, error)

    def _gone(self, link: str, peer: Peer) -> None:
        if self.gate is not None:
            self.gate.admission.leave(link, peer)
        self.core.unreachable(link, peer, self.clock())

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
