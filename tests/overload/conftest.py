"""A system with one NX unit, so that whoever attacks it attacks everybody's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes.cluster import Cluster

ROOT = Path(__file__).parents[2]
PARTS = ("hypervisor", "nx0", "lp1", "lp2", "lp3")
SYSTEM = """
[system]
name = "overload"
qos_credits = 4

[times]
beat_ms = 200
suspect_ms = 600
lpar_lease_ms = 1500
client_lease_ms = 500
fence_ms = 6000

[limits]
memory_mb = 256

[[chip]]
number = 0
unit = "nx0"
cores = 24
fifo_depth = 8

[[lpar]]
name = "lp1"
cores = 16

[[lpar]]
name = "lp2"
cores = 1
qos_credits = 4

[[lpar]]
name = "lp3"
cores = 5
"""


@dataclass(slots=True)
class Attack:
    """An attacking process."""

    process: subprocess.Popen[str]
    bursts: int = 0

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("held"), "the attacker has failed"
        return line

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def go(self) -> None:
        self.say("go")

    def hold(self) -> None:
        """Pause the attack; what it has sent is still to be dealt with."""
        self.say("hold")
        self.bursts += int(self.hear().split()[1])


Starter = Callable[[str, str], Attack]
"""Start an attacker of a mode at a partition."""


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster; each process may have 256 MiB."""
    started = Cluster.start(tmp_path_factory.mktemp("overload"), SYSTEM)
    try:
        yield started
    finally:
        started.down()


@pytest.fixture
def attack(cluster: Cluster) -> Iterator[Starter]:
    """Attackers that end with the test."""
    attacks: list[Attack] = []

    def start(mode: str, lpar: str) -> Attack:
        addresses = cluster.folder.addresses()
        command = [
            sys.executable,
            "-m",
            "tests.overload.attacker",
            mode,
            addresses.device[lpar],
            addresses.paste["nx0"],
        ]
        pipe = subprocess.PIPE
        attacks.append(Attack(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)))
        attacks[-1].hear()
        return attacks[-1]

    yield start
    for found in attacks:
        found.process.kill()
        found.process.communicate()
