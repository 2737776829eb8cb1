"""A whole system on tcp with keys: the real cores in their node loops, one thread each.

Partition lp3 is not started: a test may be it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hypervisor.core import HypervisorCore
from lpar.core import LparCore
from nxunit.core import UnitCore
from nxunit.engine import Engine
from protocol.codes import ExitCode
from protocol.dialer import Identity
from protocol.effects import Core, Effects, Exit, Peer
from protocol.key_files import init_keys, load_keys
from protocol.keys import KeyFile, Keyring, Principal, principals_of
from protocol.message import Message
from protocol.node import Node, monotonic_us
from protocol.system import SystemSettings, parse_system
from protocol.wire import Envelope

M = TypeVar("M", bound=Message)
DEADLINE_S = 20.0
SYSTEM = """
[system]
name = "secured"
low_limit_bytes = 0

[times]
beat_ms = 200
suspect_ms = 1000
lpar_lease_ms = 5000
client_lease_ms = 1000
fence_ms = 20000

[[chip]]
number = 0
unit = "nx0"
cores = 2

[[chip]]
number = 1
unit = "nx1"
cores = 2

[[lpar]]
name = "lp1"
cores = 2
home_chip = 0

[[lpar]]
name = "lp2"
cores = 1
home_chip = 1

[[lpar]]
name = "lp3"
mode = "shared"
hundredths = 50
"""
ABSENT = "lp3"


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def local() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


class NoStore:
    """Nothing is kept."""

    def commit(self, writes: Sequence[object]) -> None:
        """Nothing outlives the test."""


class Halting:
    """A core that also ends when it is told to from outside."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.effects: Effects = core.effects
        self.halt = threading.Event()

    def start(self, now_us: int) -> None:
        self.core.start(now_us)

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self.core.receive(link, peer, envelope, now_us)

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        self.core.unreachable(link, peer, now_us)

    def tick(self, now_us: int) -> None:
        self.core.tick(now_us)
        if self.halt.is_set():
            self.core.effects.exit = Exit(ExitCode.OK, "the test is over")

    def wake_us(self) -> int | None:
        return self.core.wake_us()

    def stop(self, now_us: int) -> None:
        self.core.stop(now_us)


@dataclass
class Secured:
    """The running system. Endpoints are by link, by partition and by unit."""

    settings: SystemSettings
    folder: Path
    keys: KeyFile
    hypervisor: HypervisorCore
    lpars: dict[str, LparCore]
    units: dict[str, UnitCore]
    links: dict[str, str]
    device: dict[str, str]
    paste: dict[str, str]
    nodes: list[Node] = field(default_factory=list)

    def keyring(self, principal: str) -> Keyring:
        return self.keys.keyring(Principal.parse(principal))

    @property
    def every_endpoint(self) -> dict[str, tuple[str, str]]:
        """Link and endpoint of everything that listens."""
        found = {link: (link, endpoint) for link, endpoint in self.links.items()}
        found |= {name: ("device", endpoint) for name, endpoint in self.device.items()}
        return found | {name: ("paste", endpoint) for name, endpoint in self.paste.items()}


@contextmanager
def secured(folder: Path) -> Iterator[Secured]:
    """The system, until the block ends."""
    settings = parse_system(SYSTEM, "secured.toml")
    keys_folder = folder / "keys"
    init_keys(keys_folder, principals_of(settings))
    system = _assemble(settings, keys_folder)
    halts = [node.core for node in system.nodes]
    threads = [threading.Thread(target=node.run, daemon=True) for node in system.nodes]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(system.hypervisor.hcall.sessions) == len(system.lpars), "the partitions are up")
        units = system.hypervisor.units.by_name
        eventually(lambda: all(unit.session is not None for unit in units.values()), "the units are up")
        yield system
    finally:
        for core in halts:
            assert isinstance(core, Halting)
            core.halt.set()
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a node did not stop"


def _assemble(settings: SystemSettings, keys_folder: Path) -> Secured:
    keys = load_keys(keys_folder)
    links = {link: local() for link in ("hcall", "fabric", "hmc", "telemetry")}
    device = {lpar.name: local() for lpar in settings.lpar if lpar.name != ABSENT}
    paste = {chip.unit: local() for chip in settings.chip}
    hypervisor = HypervisorCore(settings, [], os.urandom, os.getpid(), {"local": links["telemetry"]})
    lpars = {
        lpar.name: LparCore(
            settings, lpar, _identity("lpar", lpar.name, device[lpar.name]), links["hcall"], os.urandom,
            clients_are_root=False,
        )
        for lpar in settings.lpar
        if lpar.name != ABSENT
    }  # fmt: skip
    units = {
        chip.unit: UnitCore(
            settings, chip, _identity("nxunit", chip.unit, paste[chip.unit]), links["fabric"], os.urandom
        )
        for chip in settings.chip
    }  # fmt: skip
    system = Secured(settings, keys_folder, keys, hypervisor, lpars, units, links, device, paste)
    served = {link: links[link] for link in ("hcall", "fabric", "hmc")}
    system.nodes.append(
        Node(Halting(hypervisor), served, NoStore(), links["telemetry"], keys=system.keyring("hypervisor"))
    )
    for name, lpar_core in lpars.items():
        keyring = system.keyring(f"lpar:{name}")
        system.nodes.append(Node(Halting(lpar_core), {"device": device[name]}, keys=keyring))
    for name, unit_core in units.items():
        work = _worker(unit_core, Engine(settings.request_limit_bytes, settings.low_limit_bytes))
        keyring = system.keyring(f"nx:{name}")
        system.nodes.append(Node(Halting(unit_core), {"paste": paste[name]}, work=work, keys=keyring))
    return system


def _identity(role: str, name: str, endpoint: str) -> Identity:
    return Identity(role, name, os.urandom(16), "local", os.getpid(), {"local": endpoint})


def _worker(core: UnitCore, engine: Engine) -> Callable[[], bool]:
    def work() -> bool:
        job = core.take_job(monotonic_us())
        if job is not None:
            core.finish(job, engine.run(job), monotonic_us())
        return core.has_work

    return work


def eventually(holds: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.01)
