"""The real cores of a hypervisor, an NX unit and partitions, joined in one process, with clients that open and close.

Neither sockets nor the wire codec, and one tick for each batch of messages, as in the node loop: two hundred thousand
opens and closes are to take seconds. The clock moves with each round of batches; nothing is lost.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hypervisor.core import HypervisorCore
from lpar.client.kernel_session import CLIENT_TERMS
from lpar.core import LparCore
from nxunit.core import UnitCore
from protocol.codes import CreditType
from protocol.dialer import Dialer, Identity
from protocol.effects import DIALLED, Dial, Effects, Hangup, Peer, Send
from protocol.link import DEVICE
from protocol.message import Message, Request
from protocol.session import Answered
from protocol.system import SystemSettings, local_addresses
from protocol.wire import Envelope
from tests.hypervisor.table_store import TableStore
from tests.overload.opening import Heard

ROUND_US = 100
RUN_ROUNDS = 2_000_000
Arrival = tuple[str, Peer, Envelope]


class Client:
    """A client process: its session alone, and who waits for which answer."""

    def __init__(self, endpoint: str, identity: Identity) -> None:
        self.effects = Effects()
        self.waiting: dict[int, Heard] = {}
        self.dialer = Dialer(DEVICE.name, endpoint, identity, CLIENT_TERMS, self.effects)
        self.now_us = 0

    def start(self, now_us: int) -> None:
        self.now_us = now_us
        self.dialer.open(now_us)

    def receive(self, _link: str, _peer: Peer, envelope: Envelope, now_us: int) -> None:
        self.now_us = now_us
        for event in self.dialer.receive(envelope, now_us):
            if isinstance(event, Answered):
                self.waiting.pop(event.number)(event.reply)

    def tick(self, now_us: int) -> None:
        self.now_us = now_us
        self.dialer.tick(now_us)

    def wake_us(self) -> int | None:
        return self.dialer.wake_us()

    def call(self, body: Request, heard: Heard) -> None:
        """Ask the kernel; `heard` is called with the answer."""
        self.waiting[self.dialer.call(self.dialer.session, body, self.now_us)] = heard


class Joined:
    """Processes by name, their connections and the clock. `lpars` are where the clients are, else everywhere.

    `kept_back`: whether a message of a process is lost on its way.
    """

    def __init__(self, settings: SystemSettings, clients: int = 0, lpars: Sequence[str] = ()) -> None:
        self.settings = settings
        self.addresses = local_addresses(settings, "/run/v")
        self.random = random.Random(settings.name)
        self.now_us = 1_000_000
        self.store = TableStore()
        self.cores: dict[str, Any] = {}
        self.inboxes: dict[str, deque[Arrival]] = {}
        self.dialled: dict[tuple[str, str], tuple[str, Peer]] = {}
        self.peers: dict[Peer, tuple[str, str]] = {}
        self.listeners: dict[str, str] = {}
        self.kept_back: Callable[[str, Message], bool] = lambda _name, _body: False
        hypervisor = HypervisorCore(settings, [], self.random.randbytes, 1)
        self._add("hypervisor", hypervisor, self.addresses.hcall, self.addresses.fabric)
        for chip in settings.chip:
            endpoint = self.addresses.paste[chip.unit]
            unit = UnitCore(
                settings, chip, self._identity("nxunit", chip.unit, endpoint), self.addresses.fabric,
                self.random.randbytes, guard=chip.unit.encode(),
            )  # fmt: skip
            self._add(chip.unit, unit)
        for lpar in settings.lpar:
            endpoint = self.addresses.device[lpar.name]
            kernel = LparCore(
                settings, lpar, self._identity("lpar", lpar.name, endpoint), self.addresses.hcall, self.random.randbytes
            )
            self._add(lpar.name, kernel, endpoint)
        self.run(lambda: all(self.kernel(lpar.name).kernel.booted for lpar in settings.lpar), "every kernel has booted")
        homes = lpars or [lpar.name for lpar in settings.lpar]
        self.clients = [self.add_client(homes[number % len(homes)]) for number in range(clients)]
        self.run(lambda: all(client.dialer.established for client in self.clients), "every client has a session")

    @property
    def hypervisor(self) -> HypervisorCore:
        core = self.cores["hypervisor"]
        assert isinstance(core, HypervisorCore)
        return core

    def kernel(self, name: str) -> LparCore:
        core = self.cores[name]
        assert isinstance(core, LparCore)
        return core

    def unit(self, name: str) -> UnitCore:
        core = self.cores[name]
        assert isinstance(core, UnitCore)
        return core

    def in_use(self, lpar: str) -> int:
        return self.hypervisor.ledger.in_use(lpar, CreditType.DEFAULT)

    def run(self, until: Callable[[], bool], what: str) -> None:
        """Rounds until something is so."""
        for _ in range(RUN_ROUNDS):
            if until():
                return
            self.round()
        raise AssertionError(f"not within {RUN_ROUNDS} rounds: {what}")

    def pass_time(self, wait_us: int) -> None:
        """Rounds for so long."""
        end_us = self.now_us + wait_us
        self.run(lambda: self.now_us >= end_us, "time passes")

    def round(self) -> None:
        """Everybody reads what has come, ticks where something came or is due, and speaks. Idle time is skipped."""
        spoken = False
        for name, core in self.cores.items():
            inbox = self.inboxes[name]
            wake_us = core.wake_us()
            if not inbox and (wake_us is None or wake_us > self.now_us) and not core.effects.transmissions:
                continue
            spoken = True
            for _ in range(len(inbox)):
                core.receive(*inbox.popleft(), self.now_us)
            core.tick(self.now_us)
            self._settle(name, core.effects.take())
        if spoken:
            self.now_us += ROUND_US
            return
        due = [wake_us for core in self.cores.values() if (wake_us := core.wake_us()) is not None]
        self.now_us = max(self.now_us + 1, min(due))

    def _settle(self, name: str, effects: Effects) -> None:
        if effects.writes:
            self.store.commit(effects.writes)
        for wish in effects.transmissions:
            if isinstance(wish, Dial):
                peer = b"%d" % (len(self.peers) + 1)
                self.dialled[name, wish.link] = (self.listeners[wish.endpoint], peer)
                self.peers[peer] = (name, wish.link)
            elif isinstance(wish, Hangup):
                del self.dialled[name, wish.link]
            elif not self.kept_back(name, wish.envelope.body):
                self._carry(name, wish)

    def _carry(self, name: str, wish: Send) -> None:
        if wish.peer == DIALLED:
            listener, peer = self.dialled[name, wish.link]
            self.inboxes[listener].append((wish.link, peer, wish.envelope))
        else:
            dialer, link = self.peers[wish.peer]
            self.inboxes[dialer].append((link, DIALLED, wish.envelope))

    def _add(self, name: str, core: Any, *endpoints: str) -> None:
        self.cores[name] = core
        self.inboxes[name] = deque()
        for endpoint in endpoints:
            self.listeners[endpoint] = name
        core.start(self.now_us)

    def add_client(self, lpar: str) -> Client:
        """A client of that partition, which asks for a session."""
        name = f"client-{len(self.cores)}"
        client = Client(self.addresses.device[lpar], self._identity("client", name, None))
        self._add(name, client)
        return client

    def _identity(self, role: str, name: str, endpoint: str | None) -> Identity:
        endpoints = {} if endpoint is None else {"local": endpoint}
        return Identity(role, name, self.random.randbytes(16), "local", len(self.cores) + 1, endpoints)
