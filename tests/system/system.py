"""A whole system in one process: the real cores of every role on a virtual clock and a network that can go wrong.

No sockets. Every message goes through the wire codec. The hypervisor's writes reach its table only when its turn is
over, as in the node loop; a crash forgets everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeVar

from hmc.requests import ConsoleRequests
from hypervisor.core import HypervisorCore
from lpar.client.core import ClientCore
from lpar.client.links import link_of
from lpar.client.process import Lpar
from lpar.client.runner import Trace
from lpar.client.steps import Procedure
from lpar.client.tasks import Task
from lpar.core import LparCore
from nxunit.core import UnitCore
from nxunit.engine import Engine
from protocol.dialer import Identity
from protocol.effects import DIALLED, Dial, Hangup, Send
from protocol.link import LINKS
from protocol.message import Reply, Request
from protocol.session_messages import Refused
from protocol.system import SystemSettings, local_addresses
from protocol.wire import decode, encode
from tests.hypervisor.table_store import TableStore

T = TypeVar("T")
LATENCY_US = (50, 400)
LATE_US = 200_000
JOB_US = 300
RUN_LIMIT_US = 600_000_000


@dataclass(slots=True)
class Weather:
    """What the network does to each message, as probabilities."""

    loss: float = 0.0
    repeat: float = 0.0
    late: float = 0.0


@dataclass(slots=True)
class Host:
    """One process: its core and the turn it needs. `alive` is false once it was killed."""

    name: str
    core: Any
    listens: dict[str, str]
    alive: bool = True
    connections: dict[str, bytes] = field(default_factory=dict)
    ticking_us: int | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A dialled connection: who dialled on which link, and whom it reaches."""

    dialer: Host
    key: str
    endpoint: str


class System:
    """Hosts, their network and the clock."""

    def __init__(self, settings: SystemSettings, seed: int) -> None:
        self.settings = settings
        self.addresses = local_addresses(settings, "/run/v")
        self.random = Random(seed)
        self.weather = Weather()
        self.job_us = JOB_US
        self.now_us = 1_000_000
        self.store = TableStore()
        self.hosts: dict[str, Host] = {}
        self.connections: dict[bytes, Connection] = {}
        self.delivered = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._pids = count(100)
        self.engine = Engine(settings.request_limit_bytes)
        self.start_hypervisor()
        for chip in settings.chip:
            self.start_unit(chip.unit)
        for lpar in settings.lpar:
            self.start_lpar(lpar.name)

    # Starting and killing.

    def start_hypervisor(self) -> Host:
        core = HypervisorCore(self.settings, self.store.rows(), self.random.randbytes, next(self._pids))
        addresses = self.addresses
        return self._start(
            "hypervisor", core, {"hcall": addresses.hcall, "fabric": addresses.fabric, "hmc": addresses.hmc}
        )

    def start_unit(self, name: str) -> Host:
        chip = self.settings.chip_of_unit(name)
        assert chip is not None
        endpoint = self.addresses.paste[name]
        core = UnitCore(
            self.settings, chip, self._identity("nxunit", name, endpoint), self.addresses.fabric, self.random.randbytes
        )
        return self._start(name, core, {"paste": endpoint})

    def start_lpar(self, name: str) -> Host:
        lpar = self.settings.lpar_named(name)
        assert lpar is not None
        endpoint = self.addresses.device[name]
        core = LparCore(
            self.settings, lpar, self._identity("lpar", name, endpoint), self.addresses.hcall, self.random.randbytes
        )
        return self._start(name, core, {"device": endpoint})

    def kill(self, name: str) -> None:
        """SIGKILL: whatever the process had not stored is gone, and its connections break."""
        host = self.hosts.pop(name)
        host.alive = False
        for peer, connection in list(self.connections.items()):
            if connection.dialer is host:
                del self.connections[peer]

    def console(self) -> ConsoleHost:
        identity = self._identity("hmc", f"hmc-{next(self._pids)}", None)
        self.dialled(self.addresses.hmc, identity)
        return ConsoleHost(self, self.hosts[identity.name])

    def dialled(self, endpoint: str, identity: Identity) -> ConsoleRequests:
        """Somebody who says HELLO as `identity` at an endpoint, on the console's link."""
        core = ConsoleRequests(endpoint, identity)
        self._start(identity.name, core, {})
        return core

    def client(self, lpar: str, timeout: float = 20.0) -> Lpar:
        """A client process on a partition. Raises what Lpar raises."""
        return Lpar.on(ClientHost(self, lpar), timeout)

    # Time.

    def later(self, wait_us: int, action: Callable[[], None]) -> None:
        heappush(self._events, (self.now_us + wait_us, next(self._order), action))

    def run_until(self, holds: Callable[[], bool], limit_us: int = RUN_LIMIT_US) -> None:
        """Let things happen until something is so. Fails when the virtual time limit has passed."""
        end_us = self.now_us + limit_us
        while not holds():
            assert self.now_us < end_us, f"not within {limit_us / 1e6:g} virtual seconds"
            self._next()

    def pass_time(self, wait_us: int) -> None:
        end_us = self.now_us + wait_us
        self.later(wait_us, lambda: None)
        while self.now_us < end_us:
            self._next()

    def _next(self) -> None:
        at_us, _, action = heappop(self._events)
        self.now_us = max(self.now_us, at_us)
        action()

    # Turns of the node loop.

    def _start(self, name: str, core: Any, listens: dict[str, str]) -> Host:
        host = Host(name, core, listens)
        self.hosts[name] = host
        core.start(self.now_us)
        self.settle(host)
        return host

    def settle(self, host: Host) -> None:
        """The end of a turn: commit, send, do one job, and come back when the core wants to be woken."""
        if not host.alive:
            return
        effects = host.core.effects.take()
        if effects.writes:
            self.store.commit(effects.writes)
        for wish in effects.transmissions:
            self._carry_out(host, wish)
        if isinstance(host.core, UnitCore):
            self._take_job(host)
        wake_us = host.core.wake_us()
        if wake_us is not None and (host.ticking_us is None or wake_us < host.ticking_us):
            host.ticking_us = wake_us
            self.later(max(0, wake_us - self.now_us), lambda: self._tick(host, wake_us))

    def _tick(self, host: Host, due_us: int) -> None:
        if host.alive and host.ticking_us == due_us:
            host.ticking_us = None
            host.core.tick(self.now_us)
            self.settle(host)

    def _take_job(self, host: Host) -> None:
        job = host.core.take_job(self.now_us)
        if job is None:
            return

        def finish() -> None:
            if host.alive:
                host.core.finish(job, self.engine.run(job), self.now_us)
                self.settle(host)

        self.later(self.job_us, finish)

    # The network.

    def _carry_out(self, host: Host, wish: Send | Dial | Hangup) -> None:
        if isinstance(wish, Send):
            peer = wish.peer or host.connections.get(wish.link, b"")
            connection = self.connections.get(peer)
            if connection is None:
                if wish.peer:
                    self.later(0, lambda: self._unreachable(host, wish.link, wish.peer))
                return
            self._transmit(peer, connection, wish)
            return
        self.connections.pop(host.connections.pop(wish.link, b""), None)
        if isinstance(wish, Dial):
            peer = self.random.randbytes(5)
            host.connections[wish.link] = peer
            self.connections[peer] = Connection(host, wish.link, wish.endpoint)

    def _unreachable(self, host: Host, link: str, peer: bytes) -> None:
        if host.alive:
            host.core.unreachable(link, peer, self.now_us)
            self.settle(host)

    def _transmit(self, peer: bytes, connection: Connection, send: Send) -> None:
        upwards = send.peer == DIALLED
        link = link_of(connection.key) if upwards else LINKS[send.link]
        frames = encode(send.envelope)
        vocabulary = link.up if upwards else link.down
        weather, random = self.weather, self.random

        def arrive() -> None:
            if self.connections.get(peer) is connection:
                self._deliver(peer, connection, upwards=upwards, envelope=decode(frames, vocabulary))

        if random.random() >= weather.loss:
            late_us = random.randint(0, LATE_US) if random.random() < weather.late else 0
            self.later(random.randint(*LATENCY_US) + late_us, arrive)
            if random.random() < weather.repeat:
                self.later(random.randint(*LATENCY_US) + random.randint(0, LATE_US), arrive)

    def _deliver(self, peer: bytes, connection: Connection, *, upwards: bool, envelope: Any) -> None:
        if not upwards:
            host = connection.dialer
            host.core.receive(connection.key, DIALLED, envelope, self.now_us) if not isinstance(
                host.core, ConsoleRequests
            ) else host.core.receive(envelope, self.now_us)
        else:
            found = self._listener(connection.endpoint)
            if found is None:
                return
            host, link = found
            host.core.receive(link, peer, envelope, self.now_us)
        self.delivered += 1
        host.core.tick(self.now_us)
        self.settle(host)

    def _listener(self, endpoint: str) -> tuple[Host, str] | None:
        for host in self.hosts.values():
            for link, at in host.listens.items():
                if at == endpoint:
                    return host, link
        return None

    def _identity(self, role: str, name: str, endpoint: str | None) -> Identity:
        endpoints = {} if endpoint is None else {"local": endpoint}
        return Identity(role, name, self.random.randbytes(16), "local", next(self._pids), endpoints)

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


class ClientHost:
    """A client process: runs the procedures of the client library on the simulated system."""

    on_message: Trace | None = None

    def __init__(self, system: System, lpar: str) -> None:
        self.system = system
        name = f"client-{next(system._pids)}"
        pid = next(system._pids)
        endpoint = system.addresses.device[lpar]
        self.core = ClientCore(endpoint, name, "local", pid, system.random.randbytes)
        self.host = system._start(name, self.core, {})

    def run(self, procedure: Procedure[T]) -> T:
        """Let the whole system run until the procedure has ended."""
        task: Task[T] = Task(procedure)
        self.core.submit(task, self.system.now_us)
        self._compute()
        self.system.settle(self.host)

        def ended() -> bool:
            self._compute()
            return task.done

        self.system.run_until(ended)
        return task.outcome()

    def inspect(self, look: Callable[[], T]) -> T:
        return look()

    def close(self) -> None:
        """Exit without a word, as a process that ends does: its connection breaks."""
        if self.host.alive:
            self.system.kill(self.host.name)

    def _compute(self) -> None:
        while self.core.scheduler.stirred:
            stirred, self.core.scheduler.stirred = self.core.scheduler.stirred, []
            for task in stirred:
                if task.work is not None:
                    value, error = _attempt(task.work)
                    self.core.computed(task, value, error, self.system.now_us)
            self.system.settle(self.host)


class ConsoleHost:
    """A console that waits for its answers on the virtual clock."""

    def __init__(self, system: System, host: Host) -> None:
        self.system = system
        self.host = host

    def ask(self, request: Request) -> Reply | Refused:
        core: ConsoleRequests = self.host.core
        number = core.ask(request, self.system.now_us)
        self.system.settle(self.host)
        self.system.run_until(lambda: number in core.answers or core.ended is not None)
        return core.ended or core.answers.pop(number)


def _attempt(work: Callable[[], object]) -> tuple[object, BaseException | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
