"""A partition under test: the real core between a scripted hypervisor and client processes, on a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from lpar.core import LparCore
from lpar.pool import Pool
from lpar.window import Window
from protocol.clock import MILLISECOND_US, earliest
from protocol.codes import CreditType, KernelReason
from protocol.device_messages import (
    CloseDescriptor,
    DeviceOpened,
    FileText,
    Mapped,
    Mmap,
    OpenDevice,
    OsFailure,
    ReadFile,
    TxWinOpen,
    Unmap,
    WindowOpened,
    WriteFile,
)
from protocol.dialer import Identity
from protocol.effects import Dial, LogLine, Peer, Send
from protocol.hcall_messages import ConfigurationKind, Reconfigured
from protocol.message import Reply, Request
from protocol.system import (
    ChipSettings,
    LparSettings,
    ProcessorMode,
    ReopenPolicy,
    SystemSettings,
    Times,
)
from tests.lpar.client_process import Client, OpenedWindow
from tests.lpar.hypervisor import FakeHypervisor

TIMES = Times()
WINDOWS_FILE = "/sys/kernel/debug/vasbus/windows"
FAULTS_FILE = "/sys/kernel/debug/vasbus/faults"
GZIP = "/sys/devices/virtual/misc/vas/vas0/gzip"
UPDATE_TOTAL_CREDITS = f"{GZIP}/qos_capabilities/update_total_credits"
TURN_LIMIT = 100_000

Expected = TypeVar("Expected", bound=Reply)


def system_of(
    reopen: ReopenPolicy = ReopenPolicy.KERNEL, shared: bool = False, dynamic_qos: bool = True
) -> SystemSettings:
    """One chip and one partition, lp1."""
    lpar = (
        LparSettings(name="lp1", mode=ProcessorMode.SHARED, hundredths=80, dynamic_qos=dynamic_qos)
        if shared
        else LparSettings(name="lp1", cores=2, dynamic_qos=dynamic_qos)
    )
    return SystemSettings(chip=(ChipSettings(number=0, unit="nx0", cores=8),), lpar=(lpar,), reopen=reopen)


@dataclass
class Partition:
    """The bench. `settle` carries messages until nothing moves; `advance` lets time pass."""

    hypervisor: FakeHypervisor
    system: SystemSettings = field(default_factory=system_of)
    now_us: int = 1_000_000
    clients: list[Client] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.system.lpar[0]
        identity = Identity("lpar", settings.name, b"i" * 16, "local", 1, {"local": "inproc://lp1"})
        self._entropy = 0
        self.core = LparCore(self.system, settings, identity, "inproc://hcall", self._bytes)
        self._hcall_peer: Peer = b""
        self._connections = 0
        self.core.start(self.now_us)

    def _bytes(self, count: int) -> bytes:
        self._entropy += 1
        return self._entropy.to_bytes(count, "big")

    def settle(self) -> None:
        """Deliver every message in flight, and what follows from it, at this moment."""
        for _turn in range(TURN_LIMIT):
            self.core.tick(self.now_us)
            moved = self._from_core() + self._from_hypervisor() + sum(map(self._from_client, self.clients))
            if not moved:
                return
        raise AssertionError("messages never come to rest")

    def advance(self, milliseconds: float) -> None:
        """Let time pass, waking everybody when they asked for it."""
        end_us = self.now_us + int(milliseconds * MILLISECOND_US)
        self.settle()
        while True:
            wakes = [self.core.wake_us(), self.hypervisor.listener.wake_us()]
            wakes += [client.dialer.wake_us() for client in self.clients if client.running]
            wake_us = earliest(*wakes)
            if wake_us is None or wake_us > end_us or self.core.effects.exit is not None:
                break
            self.now_us = max(self.now_us + 1, wake_us)
            self.hypervisor.take(self.hypervisor.listener.tick(self.now_us), self.now_us)
            for client in self.clients:
                if client.running:
                    client.dialer.tick(self.now_us)
            self.settle()
        self.now_us = end_us
        self.settle()

    def _from_core(self) -> int:
        taken = self.core.effects.take()
        self.log += taken.log
        for wish in taken.transmissions:
            if isinstance(wish, Dial):
                self.hypervisor.listener.unreachable(self._hcall_peer, self.now_us)
                self._connections += 1
                self._hcall_peer = b"lp1-%d" % self._connections
            elif isinstance(wish, Send) and wish.link == "hcall":
                self.hypervisor.receive(self._hcall_peer, wish.envelope, self.now_us)
            elif isinstance(wish, Send):
                self._to_client(wish)
        return len(taken.transmissions)

    def _to_client(self, wish: Send) -> None:
        for client in self.clients:
            if client.running and client.peer == wish.peer:
                client.receive(wish.envelope, self.now_us)
                return
        self.core.unreachable("device", wish.peer, self.now_us)

    def _from_hypervisor(self) -> int:
        wishes = self.hypervisor.effects.take().transmissions
        for wish in wishes:
            assert isinstance(wish, Send)
            if wish.peer == self._hcall_peer:
                self.core.receive("hcall", b"", wish.envelope, self.now_us)
        return len(wishes)

    def _from_client(self, client: Client) -> int:
        if not client.running:
            return 0
        wishes = client.effects.take().transmissions
        for wish in wishes:
            if isinstance(wish, Dial):
                self._connections += 1
                client.peer = b"client-%d" % self._connections
            elif isinstance(wish, Send):
                self.core.receive("device", client.peer, wish.envelope, self.now_us)
        return len(wishes)

    def process(self, pid: int = 100) -> Client:
        """Start a client process."""
        client = Client(f"process-{len(self.clients)}", pid, self.now_us)
        self.clients.append(client)
        self.settle()
        return client

    def kill(self, client: Client) -> None:
        """SIGKILL: its connection is gone; the kernel notices with the next message to it."""
        client.running = False

    def call(self, client: Client, request: Request) -> int:
        """Make a system call without waiting for it; the number of its answer."""
        number = client.dialer.call(client.dialer.session, request, self.now_us)
        self.settle()
        return number

    def ask(self, client: Client, request: Request, expected: type[Expected]) -> Expected:
        """Make a system call that returns without time passing."""
        number = self.call(client, request)
        return self.answer(client, number, expected)

    def answer(self, client: Client, number: int, expected: type[Expected]) -> Expected:
        reply = client.answers.get(number)
        assert isinstance(reply, expected), f"expected {expected.__name__}, came {reply!r}"
        return reply

    def fails(self, client: Client, request: Request, reason: KernelReason) -> OsFailure:
        """Make a system call that fails for this reason."""
        failure = self.ask(client, request, OsFailure)
        assert failure.reason is reason, failure
        return failure

    def device(self, client: Client) -> int:
        return self.ask(client, OpenDevice(), DeviceOpened).descriptor

    def open_window(self, client: Client, *, qos: bool = False) -> OpenedWindow:
        """open() and the ioctl."""
        descriptor = self.device(client)
        request = TxWinOpen(descriptor=descriptor, vas_id=0, flags=int(qos), thread_id=client.pid + 1)
        reply = self.ask(client, request, WindowOpened)
        return OpenedWindow(client, descriptor, reply.window_id)

    def open_windows(self, count: int, *, qos: bool = False) -> list[OpenedWindow]:
        """Windows of one new process, in order."""
        client = self.process(pid=500)
        return [self.open_window(client, qos=qos) for _ in range(count)]

    def mmap(self, window: OpenedWindow) -> Mapped:
        return self.ask(window.client, Mmap(descriptor=window.descriptor), Mapped)

    def close(self, window: OpenedWindow) -> None:
        self.call(window.client, CloseDescriptor(descriptor=window.descriptor))

    def unmap(self, client: Client, mapping: int) -> None:
        self.call(client, Unmap(mapping=mapping))

    def read(self, path: str, client: Client | None = None) -> str:
        return self.ask(client or self.reader, ReadFile(path=path), FileText).text

    def write(self, path: str, text: str) -> int:
        """Start to write a file; the number of the answer at `reader`."""
        return self.call(self.reader, WriteFile(path=path, text=text))

    @property
    def reader(self) -> Client:
        """A process that only reads and writes files."""
        for client in self.clients:
            if client.pid == 1 and client.running and client.ended is None:
                return client
        return self.process(pid=1)

    def credits(self, credit_type: CreditType = CreditType.DEFAULT) -> tuple[int, int]:
        """Total and used, as sysfs shows them."""
        folder = f"{GZIP}/{'default' if credit_type is CreditType.DEFAULT else 'qos'}_capabilities"
        return int(self.read(f"{folder}/nr_total_credits")), int(self.read(f"{folder}/nr_used_credits"))

    def listing(self) -> list[list[str]]:
        """The lines of the window listing, split: order, type, window id, status, pid, descriptor."""
        return [line.split() for line in self.read(WINDOWS_FILE).splitlines()[1:]]

    def fault_listing(self) -> list[list[int]]:
        """The lines of the fault listing: window id, interrupt, pid, pending, fetched."""
        return [[int(word) for word in line.split()] for line in self.read(FAULTS_FILE).splitlines()[1:]]

    def logged(self, event: str) -> list[dict[str, object]]:
        """The facts of every log line of this name so far."""
        return [line.facts for line in self.log if line.event == event]

    def with_status(self, status: str) -> list[int]:
        """Orders of the windows with this status, newest first."""
        return [int(line[0]) for line in self.listing() if line[3] == status]

    def order_of(self, window_ids: tuple[int, ...]) -> list[int]:
        """The orders of windows by their present ids."""
        orders = {int(line[2]): int(line[0]) for line in self.listing()}
        return [orders[window_id] for window_id in window_ids]

    def pool(self, credit_type: CreditType = CreditType.DEFAULT) -> Pool:
        return self.core.kernel.driver.pools[credit_type]

    def interrupt_lines(self) -> list[int]:
        """Ids of the windows whose fault interrupts have a handler."""
        return [line.window_id for line in self.core.kernel.driver.fault_lines]

    def window(self, order: int) -> Window:
        pools = self.core.kernel.driver.pools.values()
        return next(window for pool in pools for window in pool.newest_first() if window.order == order)

    def retarget(self, total: int) -> Reconfigured:
        """Processors are removed or added: the hypervisor changes the target and tells the partition."""
        self.announce_total(total)
        return self.hypervisor.reports[-1]

    def change(self, kind: ConfigurationKind, amount: int) -> Reconfigured:
        """The hypervisor announces a change; what the partition reports of it."""
        self.hypervisor.announce(kind, amount)
        self.settle()
        return self.hypervisor.reports[-1]

    def announce_total(self, total: int) -> None:
        """The same without waiting for the partition's report."""
        self.hypervisor.targets[CreditType.DEFAULT] = total
        self.hypervisor.announce(ConfigurationKind.CPU, total)
        self.settle()


def booted(
    default: int = 10,
    qos: int = 0,
    *,
    reopen: ReopenPolicy = ReopenPolicy.KERNEL,
    shared: bool = False,
    dynamic_qos: bool = True,
) -> Partition:
    """A partition with these credits that has finished its boot."""
    hypervisor = FakeHypervisor({CreditType.DEFAULT: default, CreditType.QOS: qos})
    partition = Partition(hypervisor, system_of(reopen, shared, dynamic_qos))
    partition.settle()
    assert partition.core.kernel.booted, "the boot needs no time"
    hypervisor.made.clear()
    hypervisor.numbers.clear()
    hypervisor.made_at_us.clear()
    return partition
