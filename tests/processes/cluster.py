"""A real cluster for tests: separate processes in a temporary folder, with short leases."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.cluster import ClusterFolder
from deploy.launcher import down, up
from deploy.processes import find_processes
from hmc.connection import Console
from lpar.client import Lpar
from protocol.codes import CreditType
from protocol.console_messages import SystemStatus, WindowRow

WAIT_S = 30.0
SYSFS = "/sys/devices/virtual/misc/vas/vas0/gzip"
WINDOW_LIST = "/sys/kernel/debug/vasbus/windows"

SYSTEM = """
[system]
name = "test"

[times]
beat_ms = 200
suspect_ms = 600
lpar_lease_ms = 1500
client_lease_ms = 500
fence_ms = 6000

[[chip]]
number = 0
unit = "nx0"
cores = 3

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


def eventually(holds: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> float:
    """Wait until something is so; the seconds it took. Fails after `wait_s`."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < wait_s, f"not within {wait_s:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


@dataclass(slots=True)
class Cluster:
    """A running cluster."""

    folder: ClusterFolder
    system_path: Path

    @classmethod
    def start(cls, path: Path, system: str = SYSTEM) -> Cluster:
        system_path = path / "test-system.toml"
        system_path.write_text(system)
        cluster = cls(ClusterFolder(path / "cluster"), system_path)
        try:
            cluster.up()
        except BaseException:
            cluster.down()
            raise
        return cluster

    def up(self) -> SystemStatus:
        """Start what is missing."""
        return up(self.folder, self.system_path, lambda _text: None)

    def down(self) -> int:
        return down(self.folder, lambda _text: None, keep_ledger=False)

    def console(self) -> Console:
        return Console(self.folder.addresses().hmc)

    def lpar(self, name: str) -> Lpar:
        return Lpar(self.folder.addresses().device[name])

    def pid(self, name: str) -> int:
        """The process of a part of the system."""
        return next(process.pid for process in find_processes(self.folder.runtime_folder()) if process.name == name)

    def kill(self, name: str) -> None:
        """SIGKILL a part and wait until it is gone."""
        os.kill(self.pid(name), signal.SIGKILL)
        runtime = self.folder.runtime_folder()
        eventually(lambda: all(process.name != name for process in find_processes(runtime)), f"{name} is gone")

    def windows(self, lpar: str | None = None) -> list[WindowRow]:
        with self.console() as console:
            return list(console.windows(lpar))

    def in_use(self, lpar: str) -> int:
        """Default credits in use by the hypervisor's ledger."""
        with self.console() as console:
            status = next(status for status in console.system().lpars if status.name == lpar)
        return next(pool.in_use for pool in status.pools if pool.credit_type is CreditType.DEFAULT)


def counter(lpar: Lpar, file: str, pool: str = "default_capabilities") -> int:
    """One of the sysfs counters."""
    return int(lpar.read(f"{SYSFS}/{pool}/{file}"))


def session_epochs(cluster: Cluster) -> dict[str, tuple[int, int]]:
    """By partition: its epoch and generation."""
    with cluster.console() as console:
        return {lpar.name: (lpar.epoch, lpar.generation) for lpar in console.system().lpars}


def partition_state(cluster: Cluster, name: str) -> str:
    with cluster.console() as console:
        return next(lpar.state for lpar in console.system().lpars if lpar.name == name)
