"""A whole system in one process: the real cores of every role on a virtual clock and a network that can go wrong.

No sockets. Every message goes through the wire codec. The hypervisor's writes reach its table only when its turn is
over, as in the node loop; a crash forgets everything else. Watchers are told of every step of every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from hmc.requests import ConsoleRequests
from hypervisor.core import HypervisorCore
from lpar.client.process import Lpar
from lpar.core import LparCore
from nxunit.core import UnitCore
from nxunit.engine import Engine
from protocol.dialer import Identity
from protocol.effects import Dial, Hangup, Send
from protocol.system import SystemSettings, local_addresses
from tests.hypervisor.table_store import TableStore
from tests.system.actors import ClientHost as ClientHost
from tests.system.actors import ConsoleHost as ConsoleHost
from tests.system.links import LATENCY_US as LATENCY_US
from tests.system.links import Connection as Connection
from tests.system.links import Host as Host
from tests.system.links import Links
from tests.system.links import Weather as Weather
from tests.system.watching import Killed, StepKind, Watcher

JOB_US = 300


class System(Links):
    """Hosts on their links. `turn_us`: for how long a server goes on reading before it ends a turn (links.py)."""

    def __init__(self, settings: SystemSettings, seed: int, watchers: Sequence[Watcher] = (), turn_us: int = 0) -> None:
        self.settings = settings
        super().__init__(seed, turn_us)
        self.addresses = local_addresses(settings, "/run/v")
        self.watchers = list(watchers)
        for watcher in self.watchers:
            watcher.system = self
        self.job_us = JOB_US
        self.store = TableStore()
        self._pids = count(100)
        self._numbers = count(1)
        self.engine = Engine(settings.request_limit_bytes)
        self.start_hypervisor()
        for chip in settings.chip:
            self.start_unit(chip.unit)
        for lpar in settings.lpar:
            self.start_lpar(lpar.name)

    # Starting and killing.

    def start_hypervisor(self) -> Host:
        core = HypervisorCore(self.settings, self.store.rows(), self.random.randbytes, self.next_pid())
        addresses = self.addresses
        return self.start(
            "hypervisor",
            "hypervisor",
            core,
            {"hcall": addresses.hcall, "fabric": addresses.fabric, "hmc": addresses.hmc},
        )

    def start_unit(self, name: str) -> Host:
        chip = self.settings.chip_of_unit(name)
        assert chip is not None
        endpoint = self.addresses.paste[name]
        core = UnitCore(
            self.settings, chip, self._identity("nxunit", name, endpoint), self.addresses.fabric, self.random.randbytes,
            guard=name.encode(),
        )  # fmt: skip
        return self.start("nxunit", name, core, {"paste": endpoint})

    def start_lpar(self, name: str) -> Host:
        lpar = self.settings.lpar_named(name)
        assert lpar is not None
        endpoint = self.addresses.device[name]
        core = LparCore(
            self.settings, lpar, self._identity("lpar", name, endpoint), self.addresses.hcall, self.random.randbytes
        )
        return self.start("lpar", name, core, {"device": endpoint})

    @property
    def servers(self) -> list[str]:
        """Every process that is to run all the time."""
        settings = self.settings
        return ["hypervisor", *(chip.unit for chip in settings.chip), *(lpar.name for lpar in settings.lpar)]

    def revive(self, name: str) -> None:
        """Start a server that is not running."""
        if name in self.hosts:
            return
        if name == "hypervisor":
            self.start_hypervisor()
        elif self.settings.chip_of_unit(name) is not None:
            self.start_unit(name)
        else:
            self.start_lpar(name)

    def kill(self, name: str) -> None:
        """SIGKILL: whatever the process had not stored is gone, and its connections break.

        What it had sent is with the operating system and still arrives.
        """
        host = self.hosts.pop(name)
        host.alive = False
        gone = [peer for peer, connection in self.connections.items() if connection.dialer is host]

        def break_off() -> None:
            for peer in gone:
                self.connections.pop(peer, None)

        self.later(LATENCY_US[1], break_off)

    def console(self) -> ConsoleHost:
        return ConsoleHost(
            self, self._dialler(self.addresses.hmc, self._identity("hmc", f"hmc-{self.next_pid()}", None))
        )

    def dialled(self, endpoint: str, identity: Identity) -> ConsoleRequests:
        """Somebody who says HELLO as `identity` at an endpoint, on the console's link."""
        core: ConsoleRequests = self._dialler(endpoint, identity).core
        return core

    def _dialler(self, endpoint: str, identity: Identity) -> Host:
        return self.start(identity.role, identity.name, ConsoleRequests(endpoint, identity, self.random.randbytes), {})

    def client(self, lpar: str, timeout: float = 20.0) -> Lpar:
        """A client process on a partition. Raises what Lpar raises."""
        return Lpar.on(ClientHost(self, lpar), timeout)

    # Turns of the node loop.

    def start(self, role: str, name: str, core: Any, listens: dict[str, str]) -> Host:
        """A process begins with its core's first turn."""
        host = Host(role, name, next(self._numbers), core, listens)
        self.hosts[name] = host
        with suppress(Killed):
            self.step(host, StepKind.START, "start")
            core.start(self.now_us)
            self.settle(host)
        return host

    def step(self, host: Host, kind: StepKind, message: str) -> None:
        """Something of this process is about to take effect. Raises Killed where a watcher has killed it."""
        if kind in (StepKind.START, StepKind.INPUT):
            host.cause = message
        for watcher in self.watchers:
            watcher.step(host, kind, message)
        if not host.alive:
            raise Killed

    def settle(self, host: Host) -> None:
        """The end of a turn: commit, send, do one job, and come back when the core wants to be woken."""
        if host.alive:
            with suppress(Killed):
                self._end_turn(host)

    def _end_turn(self, host: Host) -> None:
        effects = host.core.effects.take()
        if effects.writes:
            self.step(host, StepKind.COMMIT, host.cause)
            self.store.commit(effects.writes)
            for watcher in self.watchers:
                watcher.stored(effects.writes)
        for wish in effects.transmissions:
            self.step(host, StepKind.SEND, wish.envelope.body.type if isinstance(wish, Send) else _name_of(wish))
            self._carry_out(host, wish)
        if effects.transmissions:
            self.step(host, StepKind.SENT, host.cause)
        if isinstance(host.core, UnitCore):
            self._take_job(host)
        wake_us = host.core.wake_us()
        if wake_us is not None and (host.ticking_us is None or wake_us < host.ticking_us):
            host.ticking_us = wake_us
            self.later(max(0, wake_us - self.now_us), lambda: self._tick(host, wake_us))

    def _tick(self, host: Host, due_us: int) -> None:
        if host.alive and host.ticking_us == due_us:
            host.ticking_us = None
            host.cause = "timer"
            with suppress(Killed):
                self.step(host, StepKind.TICK, "timer")
                host.core.tick(self.now_us)
                self.settle(host)

    def _take_job(self, host: Host) -> None:
        if host.core.has_work:
            self.step(host, StepKind.WORK, "job")
        job = host.core.take_job(self.now_us)
        if job is None:
            return

        def finish() -> None:
            with suppress(Killed):
                if host.alive:
                    host.cause = "job"
                    self.step(host, StepKind.OUTCOME, "job")
                    host.core.finish(job, self.engine.run(job), self.now_us)
                    self.settle(host)

        self.later(self.job_us, finish)

    def _identity(self, role: str, name: str, endpoint: str | None) -> Identity:
        endpoints = {} if endpoint is None else {"local": endpoint}
        return Identity(role, name, self.random.randbytes(16), "local", self.next_pid(), endpoints)

    def next_pid(self) -> int:
        return next(self._pids)

    # What the parts hold.

    @property
    def hypervisor(self) -> HypervisorCore:
        core = self.hosts["hypervisor"].core
        assert isinstance(core, HypervisorCore)
        return core

    def kernel(self, name: str) -> LparCore:
        core = self.hosts[name].core
        assert isinstance(core, LparCore)
        return core

    def contexts(self) -> dict[int, str]:
        """Every window context of every unit that is up."""
        return {
            context.window_id: host.name
            for host in self.hosts.values()
            if isinstance(host.core, UnitCore)
            for context in host.core.contexts
        }


def _name_of(wish: Dial | Hangup) -> str:
    return type(wish).__name__.lower()
