"""SIGKILL of processes at random under load: servers and clients of a real cluster, while a console changes credits."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest

from hmc.connection import Console, ConsoleRefused, ConsoleUnreachable
from hypervisor.inspection import inspect
from lpar.client import Lpar
from lpar.client.errors import KernelFailure
from protocol.codes import CreditType, ExitCode, KernelReason
from protocol.console_messages import PoolStatus
from protocol.node import StoreError
from tests.failures.rows import failure
from tests.processes.cluster import SYSTEM, Cluster, eventually

Figure = Callable[[str, float, str], None]
ROOT = Path(__file__).parents[2]
LEASES = {"lpar_lease_ms = 1500": "lpar_lease_ms = 4000", "client_lease_ms = 500": "client_lease_ms = 2000"}
"""So long that a machine with other work keeps nobody from a beat; all of them are waited for at the end."""
CLIENTS = ("lp1", "lp1", "lp2", "lp3")
SERVERS = ("hypervisor", "hypervisor", "nx0", "nx1", "lp1", "lp2", "lp3")
CORES = {"lp1": 2, "lp2": 1}
PAUSE_S = (0.1, 0.6)
CHANGE_WAIT_S = 4.0
PARTITIONS = tuple(sorted(set(CLIENTS)))
SHORT_KILLS, LONG_KILLS = 8, 200
END_S = 40.0
REFUSED_CHANGES = ("timeout", "too_few_processors")
"""The partition was away for longer than the operator waits; or an earlier change was made that nobody heard of."""


@pytest.fixture(scope="module")
def cluster() -> None:
    """Each test has a cluster of its own, with longer leases."""


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> None:
    """The test itself looks whether anything is left."""


@dataclass(eq=False)
class Program:
    """A client process. `deaths_s`: when its partition was killed since it started."""

    lpar: str
    process: subprocess.Popen[str]
    deaths_s: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, cluster: Cluster, lpar: str, seed: int) -> Program:
        words = [
            sys.executable,
            "-m",
            "tests.processes.busy_client",
            cluster.folder.addresses().device[lpar],
            str(seed),
        ]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        program = cls(lpar, process)
        assert program.says() == "started"
        return program

    def says(self) -> str:
        """Its next line; empty where it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def shows(self) -> str:
        """What it says of its windows."""
        assert self.process.stdin is not None
        self.process.stdin.write("show\n")
        self.process.stdin.flush()
        return self.says()

    def ends(self) -> int:
        """Let it close everything; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(END_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@dataclass(eq=False)
class Operator:
    """Takes a core from a partition and gives it back, again and again, from a console of its own each time."""

    cluster: Cluster
    changes: int = 0
    error: Exception | None = None
    stop: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.thread = Thread(target=self._run)
        self.thread.start()

    def ended(self) -> None:
        self.stop.set()
        self.thread.join(END_S)
        assert not self.thread.is_alive()
        assert self.error is None, repr(self.error)

    def _run(self) -> None:
        try:
            while not self.stop.is_set():
                for cores in (-1, 1):
                    self._change(cores)
                self.stop.wait(0.2)
        except Exception as error:
            self.error = error

    def _change(self, cores: int) -> None:
        try:
            with self.cluster.console() as console:
                console.change_processors("lp1", cores, CHANGE_WAIT_S)
                self.changes += 1
        except ConsoleUnreachable:
            return
        except ConsoleRefused as refused:
            if refused.failure.code not in REFUSED_CHANGES:
                raise


@dataclass(eq=False)
class Killing:
    """One life of a cluster under load. `fate` says who dies when."""

    cluster: Cluster
    fate: Random
    programs: list[Program] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)

    def start(self) -> None:
        for lpar in CLIENTS:
            self._begin(lpar)

    def _begin(self, lpar: str) -> None:
        self.programs.append(Program.start(self.cluster, lpar, self.fate.randrange(1 << 30)))

    def kill(self, victim: str) -> None:
        """SIGKILL one, look at the ledger where it was its writer's, and have it back."""
        time.sleep(self.fate.uniform(*PAUSE_S))
        self.killed.append(victim)
        if victim == "client":
            program = self.programs.pop(self.fate.randrange(len(self.programs)))
            program.kill()
            self._begin(program.lpar)
            return
        self.cluster.kill(victim)
        for program in self.programs:
            if program.lpar == victim:
                program.deaths_s.append(time.monotonic())
        if victim == "hypervisor":
            self.ledger_is_sound()
        self.cluster.up()

    def ledger_is_sound(self) -> None:
        """What `vasbus fsck` finds when the killed hypervisor's lock is gone, which is a moment after its process."""
        path = self.cluster.folder.ledger_path

        def looked() -> bool:
            try:
                found = inspect(path).faults
            except StoreError as error:
                if error.code is not ExitCode.STORE_LOCKED:
                    raise
                return False
            assert found == []
            return True

        eventually(looked, "the killed hypervisor has given its ledger back", END_S)

    def survivors_work(self) -> int:
        """Every program's windows complete a request on the accelerator; how many there were.

        Each session that a program has lost was ended by a death of its partition.
        """
        worked = 0
        for program in self.programs:
            said = program.shows()
            words = said.split()
            assert words, f"a program on {program.lpar} ended; killed: {self.killed}"
            begun_s = [float(moment_s) for moment_s in words[2:]]
            ended_s = [*begun_s[1:], *([math.inf] if words[0] == "dead" else [])]
            for begin_s, end_s in zip(begun_s, ended_s, strict=False):
                explained = any(begin_s < death_s < end_s for death_s in program.deaths_s)
                assert explained, f"a program on {program.lpar} lost its windows: {said}; killed: {self.killed}"
            worked += int(words[1])
        return worked

    def all_end(self) -> None:
        assert [program.ends() for program in self.programs] == [0] * len(self.programs)


@contextmanager
def killing(path: Path, seed: int) -> Iterator[Killing]:
    """A cluster under load, and nothing of it afterwards."""
    system = SYSTEM
    for short, long in LEASES.items():
        assert short in system
        system = system.replace(short, long)
    cluster = Cluster.start(path, system)
    life = Killing(cluster, Random(seed))
    try:
        life.start()
        yield life
    finally:
        for program in life.programs:
            program.kill()
        cluster.down()


def restore(console: Console) -> None:
    """Every partition has its cores, so that no window is closed for the want of a credit."""
    for status in console.system().lpars:
        missing = CORES.get(status.name, 0) - status.cores
        if missing:
            console.change_processors(status.name, missing)


def fill(lpar: Lpar) -> int:
    """Open windows until the kernel says that no credit is left; how many."""
    opened = 0
    while True:
        try:
            lpar.open_window()
        except KernelFailure as refused:
            if refused.reason is not KernelReason.NO_CREDIT:
                raise
            return opened
        opened += 1


def default_pools(cluster: Cluster) -> dict[str, PoolStatus]:
    with cluster.console() as console:
        status = console.system()
    return {lpar.name: pool for lpar in status.lpars for pool in lpar.pools if pool.credit_type is CreditType.DEFAULT}


def kill_at_random(path: Path, seed: int, kills: int, figure: Figure, *, spares: bool) -> None:
    """So many deaths; then survivors' windows work, and when all programs have ended every credit can be had again.

    Where it `spares` one partition, nothing explains the loss of a session there.
    """
    print(f"seed {seed}")
    with killing(path, seed) as life:
        spared = life.fate.choice(PARTITIONS) if spares else ""
        operator = Operator(life.cluster)
        try:
            mortal = [*(server for server in SERVERS if server != spared), "client"]
            rounds = (life.fate.sample(mortal, len(mortal)) for _ in range(-(-kills // len(mortal))))
            victims = [victim for deaths in rounds for victim in deaths]
            for victim in victims[:kills]:
                life.kill(victim)
        finally:
            operator.ended()
        with life.cluster.console() as console:
            restore(console)
        worked = life.survivors_work()
        assert worked > 0
        assert operator.changes > 0
        life.all_end()
        eventually(lambda: not life.cluster.windows(), "every window is closed", END_S)
        for name, pool in default_pools(life.cluster).items():
            with life.cluster.lpar(name) as lpar:
                assert fill(lpar) == pool.target, name
        life.cluster.kill("hypervisor")
        life.ledger_is_sound()
        figure("processes killed", len(life.killed), "")
        figure("changes of processors meanwhile", operator.changes, "")
        figure("windows of survivors that worked afterwards", worked, "")


@failure(
    "hypervisor",
    "killed again and again, as are units, partitions and clients, under load",
    seen="Calls take longer. Clients of a killed partition get ENODEV and begin anew.",
    lasts="Until each is started again; the leases of what was killed.",
    kept="Survivors' windows work on the accelerator, the ledger is sound, and every pool can be filled to its target.",
)
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1])
def test_processes_killed_at_random_under_load_leak_and_lose_nothing(tmp_path: Path, seed: int, figure: Figure) -> None:
    kill_at_random(tmp_path, seed, SHORT_KILLS, figure, spares=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_hundreds_of_processes_killed_at_random_under_load(tmp_path: Path, seed: int, figure: Figure) -> None:
    kill_at_random(tmp_path, seed, LONG_KILLS, figure, spares=False)
