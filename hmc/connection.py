"""The console's socket: blocking calls with deadlines over `ConsoleRequests`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import zmq

from hmc.arguments import WAIT_MOST_S, BadArgument, amount, flag, milliseconds, partition, shown
from hmc.requests import CHANGES, ConsoleRequests, NotKnown
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    HoldChanged,
    HoldNotifications,
    MigratePartition,
    QuerySystem,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    SystemStatus,
    WindowRow,
    Windows,
)
from protocol.curve import KeyRefused
from protocol.dialer import Identity
from protocol.effects import Dial, Hangup, Peer, Send
from protocol.endpoint import ENDPOINT_RULE, endpoint_complaint
from protocol.key_files import Keys, keys_of
from protocol.key_source import KeySource
from protocol.keys import KeyRole, KeysError
from protocol.link import CONSOLE
from protocol.message import Reply, Request
from protocol.network import network_of
from protocol.session_messages import Refused
from protocol.socket import Connections, NodeSocket
from protocol.wire import Envelope, WireError, decode, encode

ANSWER_WAIT_S = 10.0
CHANGE_WAIT_S = 30.0
BYE_WAIT_MS = 200
GRACE_S = 2.0
"""How much longer than an operation's own wait the console listens for its answer."""

Change = ChangeProcessors | SetEntitlement | SetQosCredits | MigratePartition
R = TypeVar("R", bound=Reply)
Watcher = Callable[[str, Envelope], None]
"""Called with `sent` or `received` and the message, for those who want to see the bus."""


class ConsoleUnreachable(Exception):
    """Nobody answered at the endpoint before the deadline."""


class ConsoleClosed(ConsoleUnreachable):
    """The console was closed, by `close` or at the end of its `with` block; a new one has to be made."""


class OutcomeUnknown(ConsoleUnreachable):
    """A change was asked for and no answer came: it may have been made, or may still be. The text says how to ask."""


class ConsoleRefused(Exception):
    """The hypervisor refused the request; `failure` has its code, text, numbers and advice."""

    def __init__(self, failure: ConsoleFailure) -> None:
        advice = f"; {failure.advice}" if failure.advice else ""
        super().__init__(f"{failure.code}: {failure.text}{advice}")
        self.failure = failure


class Console:
    """A management console at a hypervisor's hmc endpoint. Not for use by several threads at once.

    `keys` are keys, or a key file with one secret key of `hmc`, `observer` or `chaos`, which says what the console
    may do: an observer may ask and not change. It connects at its first call. `network` is where this program is, told
    to the hypervisor; where not given the environment's VASBUS_NETWORK, else `local`. Raises KeysError where the key
    file is wrong, ValueError where the network is no name or the endpoint none.
    """

    def __init__(
        self,
        endpoint: str,
        network: str | None = None,
        on_message: Watcher | None = None,
        keys: Keys | None = None,
    ) -> None:
        if not isinstance(endpoint, str):
            raise TypeError(f"endpoint: {ENDPOINT_RULE}, came {shown(endpoint)}")
        if endpoint_complaint(endpoint) is not None:
            raise BadArgument("endpoint", ENDPOINT_RULE.removeprefix("expected "), endpoint)
        self.endpoint = endpoint
        self.on_message = on_message
        self._closed = False
        source = console_keys(keys)
        role = "hmc" if source is None else source.keyring.owner.hello_role
        name = f"{role}-{os.urandom(8).hex()}"
        identity = Identity(role, name, os.urandom(16), network_of(network), os.getpid(), {})
        self._core = ConsoleRequests(endpoint, identity, os.urandom)
        self._connections = Connections(self, source)
        self._core.start(_now_us())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say BYE, as far as the connection takes it, and close. A second call does nothing."""
        self._closed = True
        if self._core.established and self._socket is not None:
            self._core.dialer.say_bye()
            self._transmit()
            self._socket.zmq.poll(BYE_WAIT_MS)
        self._connections.close()

    @property
    def _socket(self) -> NodeSocket | None:
        return self._connections.sockets.get(CONSOLE.name)

    def begin(self, request: Request) -> int:
        """Send a request without waiting; `finish` fetches its answer. Raises ConsoleClosed, ConsoleUnreachable."""
        self._check_open()
        number = self._core.ask(request, _now_us())
        self._transmit()
        return number

    def finish(self, number: int, kind: type[R], wait_s: float = ANSWER_WAIT_S) -> R:
        """Wait for an answer. Raises ConsoleRefused, or ConsoleUnreachable after `wait_s`.

        OutcomeUnknown, a ConsoleUnreachable, says of a change that it may have been made.
        """
        self._check_open()
        request = self._core.unanswered.get(number)
        deadline_us = _now_us() + milliseconds("wait_s", wait_s, WAIT_MOST_S + GRACE_S) * 1000
        while number not in self._core.answers:
            if self._core.ended is not None:
                raise ConsoleUnreachable(f"{self.endpoint}: {self._core.ended.expected} ({self._core.ended.came})")
            if _now_us() >= deadline_us:
                if isinstance(request, CHANGES) and self._core.was_established:
                    raise self._not_known(request, f"no answer within {wait_s:g} s")
                raise ConsoleUnreachable(
                    f"{self.endpoint}: no answer within {wait_s:g} s: is the hypervisor running there?"
                )
            try:
                self._pump(deadline_us)
            except ConsoleUnreachable as error:
                if isinstance(request, CHANGES) and self._core.was_established:
                    raise self._not_known(request, str(error)) from None
                raise
        reply = self._core.answers.pop(number)
        if isinstance(reply, ConsoleFailure):
            raise ConsoleRefused(reply)
        if isinstance(reply, NotKnown):
            assert isinstance(request, CHANGES), "only of changes it matters"
            raise self._not_known(request, reply.why)
        if isinstance(reply, Refused):
            raise ConsoleUnreachable(f"{self.endpoint}: {reply.code}: expected {reply.expected}, came {reply.came}")
        if not isinstance(reply, kind):
            raise ConsoleUnreachable(f"{self.endpoint}: expected {kind.__name__}, came {type(reply).__name__}")
        return reply

    def ask(self, request: Request, kind: type[R], wait_s: float = ANSWER_WAIT_S) -> R:
        """Send a request and wait for its answer."""
        milliseconds("wait_s", wait_s, WAIT_MOST_S + GRACE_S)  # Before anything is sent.
        return self.finish(self.begin(request), kind, wait_s)

    def _check_open(self) -> None:
        if self._closed:
            raise ConsoleClosed(f"{self.endpoint}: this console was closed: make a new one")

    def _not_known(self, request: Change, why: str) -> OutcomeUnknown:
        advice = f"`vasbus status` shows what {request.lpar} has now: look there before you ask for it again"
        return OutcomeUnknown(f"{self.endpoint}: {why}: it is not known whether {request.type} was done; {advice}")

    # What the console can do. Each raises ValueError or TypeError for an argument that cannot be meant.

    def system(self, wait_s: float = ANSWER_WAIT_S) -> SystemStatus:
        """The state of the whole system."""
        return self.ask(QuerySystem(), SystemStatus, wait_s)

    def windows(self, lpar: str | None = None) -> Iterator[WindowRow]:
        """The hypervisor's window table, of one partition or of all, by window id.

        It is asked for in pages: the first at this call, which raises ConsoleRefused (`unknown_lpar`) where there is no
        such partition, each further one when the rows before it have been taken. So it is no picture of one moment.
        """
        query = QueryWindows(lpar=None if lpar is None else partition(lpar))
        return self._pages(query, self.ask(query, Windows))

    def _pages(self, query: QueryWindows, page: Windows) -> Iterator[WindowRow]:
        above = query.above
        while True:
            yield from page.rows
            if not page.more:
                return
            if not page.rows or page.rows[-1].window_id <= above:
                raise ConsoleUnreachable(f"{self.endpoint}: expected windows above {above}, came a page without any")
            above = page.rows[-1].window_id
            page = self.ask(QueryWindows(lpar=query.lpar, above=above), Windows)

    def change_processors(self, lpar: str, cores: int, wait_s: float = CHANGE_WAIT_S) -> ConfigurationApplied:
        """DLPAR: add or remove dedicated cores; returns when the partition has reconfigured."""
        request = ChangeProcessors(
            lpar=partition(lpar), cores=amount("cores", cores), wait_ms=milliseconds("wait_s", wait_s)
        )
        return self.ask(request, ConfigurationApplied, wait_s + GRACE_S)

    def set_entitlement(self, lpar: str, hundredths: int, wait_s: float = CHANGE_WAIT_S) -> ConfigurationApplied:
        """Set a shared partition's entitled capacity in hundredths of a processor."""
        request = SetEntitlement(
            lpar=partition(lpar), hundredths=amount("hundredths", hundredths), wait_ms=milliseconds("wait_s", wait_s)
        )
        return self.ask(request, ConfigurationApplied, wait_s + GRACE_S)

    def set_qos_credits(self, lpar: str, credits: int, wait_s: float = CHANGE_WAIT_S) -> ConfigurationApplied:
        """Set a partition's QoS credits; the partition is told first."""
        request = SetQosCredits(
            lpar=partition(lpar), credits=amount("credits", credits), wait_ms=milliseconds("wait_s", wait_s)
        )
        return self.ask(request, ConfigurationApplied, wait_s + GRACE_S)

    def migrate(self, lpar: str, hold_s: float = 0.0, wait_s: float = CHANGE_WAIT_S) -> ConfigurationApplied:
        """Migrate a partition; returns when it has reopened its windows.

        For `hold_s` seconds they stay closed before the partition is moved. Raises ConsoleRefused if it was not moved.
        """
        request = MigratePartition(
            lpar=partition(lpar), hold_ms=milliseconds("hold_s", hold_s), wait_ms=milliseconds("wait_s", wait_s)
        )
        return self.ask(request, ConfigurationApplied, wait_s + GRACE_S)

    def hold_notifications(self, lpar: str, hold: bool) -> bool:
        """Test aid: keep configuration changes from reaching a partition's kernel, or let them through."""
        return self.ask(HoldNotifications(lpar=partition(lpar), hold=flag("hold", hold)), HoldChanged).hold

    def _pump(self, deadline_us: int) -> None:
        """One wait for the socket, one look at the clock."""
        self._transmit()
        wake_us = min(deadline_us, self._core.wake_us() or deadline_us)
        if self._socket is not None:
            self._socket.zmq.poll(max(0, min(500, (wake_us - _now_us()) // 1000 + 1)))
            for _, frames in self._socket.receive():
                self._receive(frames)
        self._core.tick(_now_us())
        self._transmit()

    def _receive(self, frames: list[bytes]) -> None:
        try:
            envelope = decode(frames, CONSOLE.down)
        except WireError as error:
            raise ConsoleUnreachable(f"{self.endpoint}: not a hypervisor's hmc endpoint: {error}") from None
        if self.on_message is not None:
            self.on_message("received", envelope)
        self._core.receive(envelope, _now_us())

    def _transmit(self) -> None:
        for transmission in self._core.effects.take().transmissions:
            match transmission:
                case Dial(link, endpoint):
                    self._dial(link, endpoint)
                case Send(_, peer, envelope) if self._socket is not None:
                    if self.on_message is not None:
                        self.on_message("sent", envelope)
                    self._send(self._socket, peer, encode(envelope))
                case Hangup(link):
                    self._connections.hang_up(link)

    def _dial(self, link: str, endpoint: str) -> None:
        try:
            self._connections.dial(link, CONSOLE, endpoint)
        except (KeysError, zmq.ZMQError) as error:
            raise ConsoleUnreachable(f"cannot dial {endpoint}: {error}") from None

    def _send(self, socket: NodeSocket, peer: Peer, frames: list[bytes]) -> None:
        try:
            socket.send(peer, frames)
        except KeyRefused as error:
            # A forwarder whose hypervisor is being restarted breaks handshakes off: the deadline decides.
            if error.definite or not self._core.was_established:
                raise ConsoleUnreachable(str(error)) from None


def console_keys(keys: Keys | None) -> KeySource | None:
    """The keys of a console or an observer. Raises KeysError."""
    return keys_of(keys, KeyRole.HMC, KeyRole.OBSERVER, KeyRole.CHAOS)


def _now_us() -> int:
    return time.monotonic_ns() // 1000
