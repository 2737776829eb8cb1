"""Replicas as processes on tcp with the enrolment key: who claims which slot, and what the death of one costs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hmc.connection import Console
from lpar.client import Lpar, NxGzip
from protocol.codes import ExitCode
from protocol.console_messages import SystemStatus
from protocol.key_files import export_keys, init_keys
from protocol.keys import Principal, principals_of
from protocol.system import parse_system
from tests.conftest import Figure
from tests.processes.cluster import WAIT_S, eventually
from tests.processes.tcp.system import Apart, compressed_by_nx
from tests.security.system import free_port

LEASE_S = 1.6
SYSTEM = """
[system]
name = "replicas"

[times]
beat_ms = 200
suspect_ms = 600
lpar_lease_ms = 1500
client_lease_ms = 1000
fence_ms = 6000

[[chip]]
number = 0
unit = "nx0"
cores = 5

[[lpar]]
name = "lp1"
cores = 2

[slots]
name = "lpar"
count = 3
cores = 1
"""


@pytest.fixture(scope="package")
def system() -> None:
    """The system here is another one."""


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> None:
    """It ends with the test."""


class Replicated:
    """A hypervisor, its unit, and replicas that are started one by one. Nobody has more than his exported keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "system.toml").write_text(SYSTEM)
        init_keys(folder / "keys", principals_of(parse_system(SYSTEM, "system.toml")))
        self.links = {link: self._place() for link in ("hcall", "fabric", "hmc", "telemetry", "paste")}
        self.devices: dict[str, str] = {}
        listen = [f"--listen={link}={self.links[link]}" for link in ("hcall", "fabric", "hmc", "telemetry")]
        self._start("hypervisor", ["hypervisor", "--ledger=ledger", *listen], "hypervisor")
        unit = ["nxunit", "nx0", f"--dial=fabric={self.links['fabric']}", f"--listen=paste={self.links['paste']}"]
        self._start("nx0", unit, "nx:nx0")
        eventually(lambda: self._ready(), "the hypervisor and its unit run")

    @staticmethod
    def _place() -> str:
        return f"tcp://127.0.0.1:{free_port()}"

    def keys(self, owner: str) -> Path:
        path = self.folder / f"{owner.replace(':', '-')}.keys"
        if not path.exists():
            export_keys(self.folder / "keys", [Principal.parse(owner)], path)
        return path

    def _start(self, name: str, words: list[str], owner: str) -> None:
        command = [sys.executable, "-m", "vasbus", "serve", *words, "--system=system.toml", "--metrics=off"]
        environment = Apart(self.folder).environment()
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*command, f"--keys={self.keys(owner)}"], cwd=self.folder, stdout=log, stderr=log, env=environment
            )

    def dial_in(self, name: str) -> None:
        """Start a replica."""
        self.devices[name] = self._place()
        words = ["slot", f"--dial=hcall={self.links['hcall']}", f"--listen=device={self.devices[name]}"]
        self._start(name, words, "enrol")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def status(self) -> SystemStatus:
        with Console(self.links["hmc"], keys=self.keys("hmc")) as console:
            return console.system()

    def _ready(self) -> bool:
        with suppress(ConnectionError):
            return {unit.state for unit in self.status().units} == {"running"}
        return False

    def claimed(self) -> dict[str, str]:
        """Where each claimed slot is served."""
        return {
            lpar.name: lpar.endpoints["local"] for lpar in self.status().lpars if lpar.name != "lp1" and lpar.endpoints
        }

    def client(self, name: str) -> Lpar:
        return Lpar(self.devices[name], keys=self.keys("client:lpar"))

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicated]:
    running = Replicated(tmp_path)
    try:
        yield running
    except BaseException:
        for name in running.processes:
            print(f"--- {name}\n{running.log(name)[-2_000:]}")
        raise
    finally:
        running.stop()


def test_three_replicas_claim_three_slots_and_the_slot_of_one_that_is_killed_is_claimed_again(
    replicas: Replicated, figure: Figure
) -> None:
    for number, name in enumerate(("one", "two", "three"), 1):
        replicas.dial_in(name)
        eventually(lambda: len(replicas.claimed()) == number, "it has a slot")  # noqa: B023
        assert f"lpar-{number:02d}" in replicas.log(name), "its log says which"
    assert replicas.claimed() == {f"lpar-0{at}": replicas.devices[name] for at, name in enumerate(replicas.devices, 1)}
    assert replicas.status().hundredths_free == 0
    replicas.processes["two"].send_signal(signal.SIGKILL)
    replicas.processes["two"].wait()
    died = time.monotonic()
    eventually(lambda: replicas.status().hundredths_free == 100, "its cores are free")
    figure("killed to slot and cores free (lease 1.6 s)", time.monotonic() - died, "s")
    assert "lpar-02" not in replicas.claimed()
    replicas.dial_in("four")
    eventually(lambda: replicas.claimed().get("lpar-02") == replicas.devices["four"], "the fourth has it")
    for name in ("four", "one"):
        with replicas.client(name) as lpar, NxGzip(lpar, small_bytes=0) as nx:
            nx.open()
            assert compressed_by_nx(nx)
    replicas.dial_in("five")
    assert replicas.processes["five"].wait(WAIT_S) == ExitCode.REFUSED
    assert "slots_full: expected a free slot of 'lpar', came 3 of 3 claimed" in " ".join(replicas.log("five").split())
    replicas.processes["one"].terminate()
    assert replicas.processes["one"].wait(WAIT_S) == ExitCode.OK
    assert "lpar-01" not in replicas.claimed(), "it has said BYE"
