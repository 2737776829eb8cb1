"""The pretended kernel and NX units behind real sockets: server nodes in threads of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from protocol.codes import ExitCode
from protocol.effects import Effects, Exit, Peer
from protocol.message import PasteAddress
from protocol.node import Node
from protocol.wire import Envelope
from tests.client.kernel import FakeKernel
from tests.client.unit import FakeUnit

GLANCE_US = 20_000
"""How often a server looks whether it is to stop."""
JOIN_S = 10.0


class Server:
    """What both servers share: a queue of things to do later and an end."""

    def __init__(self) -> None:
        self.effects = Effects()
        self.stopping = threading.Event()
        self.now_us = 0
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def later(self, wait_us: int, action: Callable[[], None]) -> None:
        heappush(self._later, (self.now_us + wait_us, next(self._order), action))

    def start(self, now_us: int) -> None:
        self.now_us = now_us

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        """A client that went is nothing to a unit."""

    def tick(self, now_us: int) -> None:
        self.now_us = now_us
        while self._later and self._later[0][0] <= now_us:
            heappop(self._later)[2]()
        if self.stopping.is_set():
            self.stop(now_us)

    def wake_us(self) -> int | None:
        glance_us = self.now_us + GLANCE_US
        return min(glance_us, self._later[0][0]) if self._later else glance_us

    def stop(self, now_us: int) -> None:
        self.effects.exit = Exit(ExitCode.OK, "asked to")


class UnitServer(Server):
    """An NX unit as a core for a node."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.unit = FakeUnit(name, lambda peer, envelope: self.effects.send("paste", peer, envelope), self.later)

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self.now_us = now_us
        self.unit.receive(peer, envelope)


class KernelServer(Server):
    """A partition's kernel as a core for a node. Units' endpoints are in `folder`."""

    def __init__(self, units: list[FakeUnit], folder: Path) -> None:
        super().__init__()
        self.kernel = LocalKernel(units, os.urandom, later=self.later, folder=folder)
        self.effects = self.kernel.effects

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self.now_us = now_us
        self.kernel.receive(peer, envelope, now_us)
        self._hush()

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        self.kernel.listener.unreachable(peer, now_us)

    def tick(self, now_us: int) -> None:
        super().tick(now_us)
        self.kernel.tick(now_us)
        self._hush()

    def _hush(self) -> None:
        if self.kernel.mute:
            self.effects.transmissions.clear()


@dataclass
class LocalKernel(FakeKernel):
    """Its windows' paste addresses name sockets in a folder."""

    folder: Path = field(default_factory=Path)

    def _allocate(self, unit: FakeUnit | None) -> PasteAddress:
        address = super()._allocate(unit)
        return address.model_copy(update={"endpoints": {"local": f"ipc://{self.folder}/{address.unit}"}})


@dataclass
class Servers:
    """Running servers. `endpoint` is the kernel's."""

    endpoint: str
    kernel: FakeKernel
    units: list[FakeUnit]


@contextmanager
def serving(folder: Path) -> Iterator[Servers]:
    """A kernel and two units on ipc sockets in `folder`, one thread each."""
    unit_servers = [UnitServer(f"nx{number}") for number in range(2)]
    units = [server.unit for server in unit_servers]
    kernel_server = KernelServer(units, folder)
    endpoint = f"ipc://{folder}/device"
    nodes = [Node(kernel_server, {"device": endpoint})]
    nodes += [Node(server, {"paste": f"ipc://{folder}/{server.unit.name}"}) for server in unit_servers]
    threads = [threading.Thread(target=node.run) for node in nodes]
    for thread in threads:
        thread.start()
    try:
        yield Servers(endpoint, kernel_server.kernel, units)
    finally:
        for server in [kernel_server, *unit_servers]:
            server.stopping.set()
        for thread in threads:
            thread.join(JOIN_S)
            assert not thread.is_alive(), "a server did not stop"
