"""A system on tcp whose processes share nothing: each has a folder with the system file and its own exported keys."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from hmc.connection import Console, ConsoleUnreachable
from lpar.client import Lpar, NxGzip
from protocol.codes import CreditType
from protocol.console_messages import LparStatus, SystemStatus, UnitStatus, WindowRow
from protocol.key_files import KEYS_VARIABLE, export_keys, init_keys, load_keys
from protocol.keys import Principal, principals_of
from protocol.system import parse_system
from tests.processes.cluster import WAIT_S, eventually
from tests.security.system import free_port
from vasbus.command import app

ROOT = Path(__file__).parents[3]
LOG_TAIL = 2_000
DATA = b"a bus of its own " * 5_000
OWN_KEYS = "own.keys"
SYSTEM = """
[system]
name = "apart"

[times]
beat_ms = 200
suspect_ms = 600
lpar_lease_ms = 1500
client_lease_ms = 1000
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
cores = 2
home_chip = 1

[[lpar]]
name = "lp3"
mode = "shared"
hundredths = 80
home_chip = 1
"""
"""The partitions of the tour, with the short times of tests."""
ROLES = {"hypervisor": "hypervisor", "nx0": "nxunit", "nx1": "nxunit", "lp1": "lpar", "lp2": "lpar", "lp3": "lpar"}
OWNERS = {"hypervisor": "hypervisor", "nxunit": "nx:{}", "lpar": "lpar:{}"}
HOSTS = {name: f"127.0.0.{number}" for number, name in enumerate(ROLES, 11)}
"""All of 127.0.0.0/8 is this machine: each process listens at a host of its own."""
WITH_LOCK = "nx0"
"""The unit with a folder for its lock; the other one has none."""


HYPERVISOR_LINKS = ("hcall", "fabric", "hmc", "telemetry")


def _words(name: str, links: dict[str, str]) -> list[str]:
    """The arguments of `vasbus serve` for one process."""
    role = ROLES[name]
    common = ["--system", "system.toml", "--keys", OWN_KEYS, "--metrics", "off"]
    if role == "hypervisor":
        listen = [f"--listen={link}={links[link]}" for link in HYPERVISOR_LINKS]
        return [role, *common, *listen, "--ledger=ledger", f"--advertise=local={links['telemetry']}"]
    up, down = ("hcall", "device") if role == "lpar" else ("fabric", "paste")
    lock = ["--runtime=state"] if name == WITH_LOCK else []
    places = [f"--listen={down}={links[name]}", f"--dial={up}={links[up]}"]
    return [role, name, *common, *places, f"--advertise=local={links[name]}", *lock]


@dataclass
class Impostor:
    """A process that is not of the system."""

    process: subprocess.Popen[str]
    links: dict[str, str]

    def ending(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it said, with blanks for line ends."""
        said, _ = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, " ".join(said.split())


@dataclass
class Apart:
    """The running system."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        """The folder with all keys, which no process has."""
        return self.folder / "keys"

    def machine(self, name: str) -> Path:
        """What one process has."""
        return self.folder / name

    def log(self, name: str) -> str:
        return (self.machine(name) / "log").read_text()

    def prepare(self) -> None:
        """Keys, ports, and a folder for each process."""
        init_keys(self.keys, principals_of(parse_system(SYSTEM, "system.toml")))
        for name, role in ROLES.items():
            self.machine(name).mkdir()
            (self.machine(name) / "system.toml").write_text(SYSTEM)
            self.export(name)
            for link in HYPERVISOR_LINKS if role == "hypervisor" else (name,):
                self.links[link] = f"tcp://{HOSTS[name]}:{free_port()}"

    def export(self, name: str) -> None:
        """Hand a process its keys as they are now."""
        owner = Principal.parse(OWNERS[ROLES[name]].format(name))
        export_keys(self.keys, [owner], self.machine(name) / OWN_KEYS, replace=True)

    def export_all(self) -> None:
        """Hand everybody its keys as they are now, the clients of the partitions too."""
        for name, role in ROLES.items():
            self.export(name)
            if role == "lpar" and Principal.parse(f"client:{name}") in load_keys(self.keys).own:
                self.client_keys(name)

    def for_user(self, file: str, *owners: str) -> Path:
        """A key file for people and programs."""
        path = self.folder / file
        export_keys(self.keys, [Principal.parse(owner) for owner in owners], path, replace=True)
        return path

    def start(self, name: str) -> None:
        """Start a process in its folder."""
        command = [sys.executable, "-m", "vasbus", "serve", *_words(name, self.links)]
        with (self.machine(name) / "log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.machine(name), stdout=log, stderr=log, env=self.environment()
            )

    def impostor(self, name: str, keys: Path) -> Impostor:
        """Start a second process for a name, at other ports and with other keys."""
        links = {link: f"tcp://{HOSTS[name]}:{free_port()}" for link in (*HYPERVISOR_LINKS, name)}
        machine = self.folder / f"impostor-{name}"
        machine.mkdir()
        (machine / "system.toml").write_text(SYSTEM)
        if ROLES[name] != "hypervisor":
            links = {**self.links, name: links[name]}
        words = [word.replace(OWN_KEYS, str(keys)) for word in _words(name, links)]
        process = subprocess.Popen(
            [sys.executable, "-m", "vasbus", "serve", *words], cwd=machine, env=self.environment(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return Impostor(process, links)

    def environment(self, keys: Path | None = None) -> dict[str, str]:
        """The environment of a process: with the keys of a user, or without any."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("VASBUS_")}
        return {**plain, "PYTHONPATH": str(ROOT), **({KEYS_VARIABLE: str(keys)} if keys is not None else {})}

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def end(self, name: str) -> int:
        """Ask a process to stop; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(WAIT_S)

    def run(self, keys: Path, *words: str, code: int = 0) -> str:
        """A command of a user who has these keys, and nothing else of the system; what it printed."""
        command = [sys.executable, "-m", "vasbus", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(keys), capture_output=True, text=True, timeout=60.0
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def console(self) -> Console:
        return Console(self.links["hmc"], keys=self.for_user("console.keys", "hmc"))

    def client(self, name: str) -> Lpar:
        """A process on a partition, whose key file is read again at each connection that it makes."""
        return Lpar(self.links[name], keys=self.client_keys(name))

    def client_keys(self, name: str) -> Path:
        """The key file of the clients of a partition."""
        return self.for_user(f"{name}-client.keys", f"client:{name}")

    def status(self) -> SystemStatus:
        with self.console() as console:
            return console.system()

    def windows(self) -> list[WindowRow]:
        with self.console() as console:
            return list(console.windows())

    def in_use(self, lpar: str) -> int:
        """Default credits in use by the hypervisor's ledger."""
        found = next(status for status in self.status().lpars if status.name == lpar)
        return next(pool.in_use for pool in found.pools if pool.credit_type is CreditType.DEFAULT)

    def is_running(self) -> bool:
        """Whether every part is known to the hypervisor and at work."""
        try:
            status = self.status()
        except ConsoleUnreachable:
            return False
        parts: list[LparStatus | UnitStatus] = [*status.lpars, *status.units]
        return not status.recovering and {part.state for part in parts} == {"running"}

    def wait_until_running(self) -> float:
        return eventually(self.is_running, "every part is running")

    def change_keys(self, *words: str) -> None:
        """`vasbus keys` with these words."""
        done = CliRunner().invoke(app, ["keys", *words])
        assert done.exit_code == 0, done.output


@contextmanager
def working(system: Apart, *names: str) -> Iterator[list[NxGzip]]:
    """A client on each of these partitions, with one window that has been used."""
    with ExitStack() as stack:
        found = []
        for name in names:
            lpar = stack.enter_context(system.client(name))
            nx = stack.enter_context(NxGzip(lpar, small_bytes=0))
            nx.open()
            assert compressed_by_nx(nx)
            found.append(nx)
        yield found


def compressed_by_nx(nx: NxGzip) -> bool:
    """Compress something; whether an NX unit did."""
    before = nx.statistics().compress.nx_bytes
    assert gzip.decompress(nx.compress(DATA)) == DATA
    return nx.statistics().compress.nx_bytes == before + len(DATA)


@contextmanager
def apart(folder: Path) -> Iterator[Apart]:
    """The system, until the block ends; where a test fails, the last words of each process."""
    system = Apart(folder)
    system.prepare()
    try:
        for name in ROLES:
            system.start(name)
        system.wait_until_running()
        yield system
    except BaseException:
        for name in ROLES:
            print(f"--- {name}\n{system.log(name)[-LOG_TAIL:]}")
        raise
    finally:
        for name in list(system.processes):
            system.kill(name)
