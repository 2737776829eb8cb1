"""The compose project under test, as a user has it: the docker command, and what a script on the host reaches."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hmc.connection import Console
from lpar.client import Lpar
from protocol.console_messages import SystemStatus, WindowRow
from tests.processes.cluster import eventually
from tests.security.system import free_port

ROOT = Path(__file__).parents[2]
COMMAND_S = 300.0
HEALTHY_S = 60.0
NETWORK = "host"
PORTS = ("HMC", "TELEMETRY", "LP1", "LP2", "LP3", "NX0", "NX1")


class DockerFailed(AssertionError):
    """A docker command ended with another code than 0."""


def docker(*words: str, env: dict[str, str] | None = None, timeout_s: float = COMMAND_S) -> str:
    """What a docker command prints. Raises DockerFailed with what it said."""
    done = subprocess.run(["docker", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode:
        raise DockerFailed(f"docker {' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@dataclass
class Project:
    """One compose project of its own name, at free ports of the host, and the key files for scripts there."""

    folder: Path
    name: str = field(default_factory=lambda: f"vasbus-test-{os.getpid()}")
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})
    files: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        ports = {f"VASBUS_{name}_PORT": str(port) for name, port in self.ports.items()}
        files = ":".join(("docker-compose.yml", *self.files))
        return {**os.environ, **ports, "COMPOSE_PROJECT_NAME": self.name, "COMPOSE_FILE": files}

    def compose(self, *words: str, timeout_s: float = COMMAND_S) -> str:
        return docker("compose", *words, env=self.env, timeout_s=timeout_s)

    def up(self, *words: str) -> None:
        """Start what is missing and wait until all is healthy.

        The engine calls a container unhealthy that it has paused, until its next check: `up` would give up at once.
        """
        eventually(lambda: not self._unhealthy(), "no container is unhealthy", HEALTHY_S)
        self.compose("up", "--detach", "--wait", *words)

    def _unhealthy(self) -> str:
        label = f"label=com.docker.compose.project={self.name}"
        return docker("ps", "--quiet", "--filter", label, "--filter", "health=unhealthy")

    def down(self) -> None:
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "15")

    def run(self, service: str, *words: str) -> str:
        """One command in a container of a service that is not always there."""
        return self.compose("run", "--rm", "--no-TTY", service, *words)

    def id(self, service: str, index: int = 1) -> str:
        found = docker("ps", "--all", "--quiet", "--filter", f"name=^{self.name}-{service}-{index}$").split()
        assert len(found) == 1, f"{service} {index}: {found}"
        return found[0]

    def state(self, service: str, index: int = 1) -> dict[str, object]:
        state: dict[str, object] = json.loads(docker("inspect", "--format", "{{json .State}}", self.id(service, index)))
        return state

    def logs(self, service: str) -> str:
        return self.compose("logs", "--no-log-prefix", service)

    def kill(self, service: str, index: int = 1) -> None:
        docker("kill", "--signal", "KILL", self.id(service, index))

    def start(self, service: str, index: int = 1) -> None:
        docker("start", self.id(service, index))

    # What a script on the host does.

    def key_file(self, owner: str) -> Path:
        """The owner's keys, exported as docs/operations.md says."""
        path = self.folder / f"{owner.replace(':', '-')}.keys"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(self.run("keyring", "keys", "export", "/keys", owner, "-"))
        return path

    @contextmanager
    def console(self) -> Iterator[Console]:
        with Console(f"tcp://127.0.0.1:{self.ports['HMC']}", keys=self.key_file("hmc"), network=NETWORK) as console:
            yield console

    def status(self) -> SystemStatus:
        with self.console() as console:
            return console.system()

    def windows(self) -> list[WindowRow]:
        with self.console() as console:
            return list(console.windows())

    def lpar(self, name: str) -> Lpar:
        endpoint = f"tcp://127.0.0.1:{self.ports[name.upper()]}"
        return Lpar(endpoint, keys=self.key_file(f"client:{name}"), network=NETWORK)

    def replica(self, index: int) -> Lpar:
        """The replica's own published port, which is another one after each start."""
        place = self.compose("port", "--index", str(index), "lpar", "7101").strip()
        return Lpar(f"tcp://{place}", keys=self.key_file("client:lpar"), network=NETWORK)

    def running(self) -> list[str]:
        """The partitions that have a session."""
        return sorted(lpar.name for lpar in self.status().lpars if lpar.state == "running")
