"""deploy/stack.yml on a swarm of one node. What takes more nodes is named as untested in docs/operations.md."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hmc.connection import Console
from lpar.client import Lpar, NxGzip
from tests.compose.conftest import Timed
from tests.compose.project import COMMAND_S, NETWORK, PORTS, ROOT, docker
from tests.overload.neighbour import REQUEST
from tests.processes.cluster import eventually
from tests.security.system import free_port

pytestmark = pytest.mark.compose
LABEL = "vasbus.hypervisor"
SERVICES = ("hypervisor", "lp1", "lp2", "lp3", "nx0", "nx1")
SECRETS = {
    "hypervisor": "hypervisor,observer",
    "nx0": "nx:nx0",
    "nx1": "nx:nx1",
    "lp1": "lpar:lp1,client:lp1",
    "lp2": "lpar:lp2,client:lp2",
    "lp3": "lpar:lp3,client:lp3",
    "lpar": "enrol,client:lpar",
}
TEXT = b"what an update of the service must not change " * 5_000
CONVERGED_S = 120.0


@dataclass
class Stack:
    """One stack of its own name, with its secrets, and the key files of the operator's machine."""

    folder: Path
    name: str = field(default_factory=lambda: f"vasbus-stack-{os.getpid()}")
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})

    def keys(self, *words: str) -> str:
        command = [sys.executable, "-m", "vasbus", "keys", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    def key_file(self, owner: str) -> Path:
        path = self.folder / f"{owner.replace(':', '-')}.keys"
        if not path.exists():
            self.keys("export", str(self.folder / "keys"), owner, str(path))
        return path

    def make_secrets(self) -> None:
        self.keys("init", str(self.folder / "keys"), "--system", "deploy/compose/system.toml")
        for service, owners in SECRETS.items():
            exported = self.key_file(owners)
            docker("secret", "create", f"{self.name}-{service}-1", str(exported))
            exported.unlink()

    def deploy(self) -> None:
        ports = {f"VASBUS_{name}_PORT": str(port) for name, port in self.ports.items()}
        env = {**os.environ, **ports, "VASBUS_PREFIX": self.name}
        docker("stack", "deploy", "--resolve-image", "never", "-c", "deploy/stack.yml", self.name, env=env)
        eventually(lambda: all(self.replicas(name) == "1/1" for name in SERVICES), "all is healthy", CONVERGED_S)

    def replicas(self, service: str) -> str:
        found = docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}").splitlines()
        return dict(line.split() for line in found).get(f"{self.name}_{service}", "")

    def containers(self, service: str) -> list[str]:
        label = f"label=com.docker.swarm.service.name={self.name}_{service}"
        return docker("ps", "--quiet", "--filter", label).split()

    def console(self) -> Console:
        keys = self.key_file("hmc,client:lp1,client:lp2,client:lp3,client:lpar")
        return Console(f"tcp://127.0.0.1:{self.ports['HMC']}", keys=keys, network=NETWORK)

    def rows(self) -> set[tuple[int, str, str, str]]:
        """The windows; none while the hypervisor's port is nobody's."""
        try:
            with self.console() as console:
                return {(row.window_id, row.lpar, row.unit, row.state) for row in console.windows()}
        except OSError:
            return set()

    def remove(self) -> None:
        docker("stack", "rm", self.name)
        mine = ("--quiet", "--filter", f"label=com.docker.stack.namespace={self.name}")
        kinds = (("service", "ls"), ("ps", "--all"), ("network", "ls"), ("config", "ls"))
        eventually(lambda: not any(docker(*kind, *mine) for kind in kinds), "nothing is left", CONVERGED_S)
        named = docker("volume", "ls", "--quiet", "--filter", f"name={self.name}_").split()
        if named:
            docker("volume", "rm", *named)
        secrets = docker("secret", "ls", "--quiet", "--filter", f"name={self.name}-").split()
        if secrets:
            docker("secret", "rm", *secrets)


@contextmanager
def swarm() -> Iterator[str]:
    """This node, in a swarm and with the hypervisor's label; as it was before, afterwards."""
    was_active = docker("info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "active"
    if not was_active:
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    node = docker("info", "--format", "{{.Swarm.NodeID}}").strip()
    labelled = LABEL in json.loads(docker("node", "inspect", "--format", "{{json .Spec.Labels}}", node))
    try:
        if not labelled:
            docker("node", "update", "--label-add", f"{LABEL}=true", node)
        yield node
    finally:
        if not was_active:
            docker("swarm", "leave", "--force")
        elif not labelled:
            docker("node", "update", "--label-rm", LABEL, node)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    docker("compose", "build", "--quiet", "hypervisor")
    with swarm():
        made = Stack(tmp_path_factory.mktemp("stack"))
        try:
            made.make_secrets()
            made.deploy()
            yield made
        finally:
            made.remove()


def test_a_deployed_stack_runs_and_a_script_on_the_host_uses_a_unit(stack: Stack) -> None:
    with stack.console() as console:
        status = console.system()
    assert {lpar.name: lpar.state for lpar in status.lpars} == dict.fromkeys(("lp1", "lp2", "lp3"), "running")
    assert {unit.name: unit.state for unit in status.units} == dict.fromkeys(("nx0", "nx1"), "running")
    keys, device = stack.key_file("client:lp2"), f"tcp://127.0.0.1:{stack.ports['LP2']}"
    with Lpar(device, keys=keys, network=NETWORK) as lpar, NxGzip(lpar, small_bytes=0) as nx:
        assert gzip.decompress(nx.compress(TEXT)) == TEXT
        assert nx.statistics().compress.nx_bytes == len(TEXT)


def test_a_container_on_the_device_network_uses_a_unit(stack: Stack) -> None:
    keys = stack.key_file("client:lp1")
    words = (
        "--rm",
        "--network",
        f"{stack.name}_device",
        "--user",
        str(os.getuid()),
        "--volume",
        f"{keys}:/own.keys:ro",
    )
    env = ("--env", "VASBUS_KEYS=/own.keys", "--env", "VASBUS_NETWORK=inside")
    script = ("examples/compress_file.py", "tcp://lp1:7101", "examples/README.md", "/tmp/out.gz")
    told = docker("run", *words, *env, "--entrypoint", "python", "vasbus", *script)
    assert told.splitlines()[-1].endswith("bytes by nx")


def test_replicas_of_a_service_claim_slots(stack: Stack) -> None:
    docker("service", "scale", f"{stack.name}_lpar=2")
    with stack.console() as console:
        status = console.system()
    assert status.slots is not None
    assert status.slots.claimed == 2
    docker("service", "scale", f"{stack.name}_lpar=0")
    eventually(lambda: not stack.containers("lpar"), "they are gone")
    with stack.console() as console:
        status = console.system()
    assert status.slots is not None
    assert status.slots.claimed == 0


@pytest.mark.parametrize("service", ["hypervisor", "nx0"])
def test_a_rolling_update_under_load_loses_no_window(stack: Stack, service: str, timed: Timed) -> None:
    device = f"tcp://127.0.0.1:{stack.ports['LP1']}"
    with Lpar(device, keys=stack.key_file("client:lp1"), network=NETWORK) as lpar, NxGzip(lpar, small_bytes=0) as nx:
        windows = [lpar.open_window() for _ in range(4)]
        nx.open()
        before, (was,) = stack.rows(), stack.containers(service)
        assert len(before) == 5

        def update() -> None:
            words = ["docker", "service", "update", "--quiet", "--force", "--detach=false", f"{stack.name}_{service}"]
            with subprocess.Popen(words, stdout=subprocess.DEVNULL) as updating:
                while updating.poll() is None:
                    assert gzip.decompress(nx.compress(TEXT)) == TEXT
            assert updating.returncode == 0

        timed(f"rolling update of {service}, 10 s of watching included", COMMAND_S / 5, update)
        assert stack.containers(service) != [was]
        eventually(lambda: stack.rows() == before, "every window is there")
        assert [window.run(REQUEST, 5).code for window in windows] == [0] * 4
        assert nx.statistics().compress.software_bytes == 0
        lpar.open_window().close()


@pytest.mark.parametrize("service", [*SERVICES, "lpar"])
def test_a_service_has_the_rights_and_the_limits_that_it_needs(stack: Stack, service: str) -> None:
    spec = json.loads(docker("service", "inspect", f"{stack.name}_{service}"))[0]["Spec"]
    container, limits = spec["TaskTemplate"]["ContainerSpec"], spec["TaskTemplate"]["Resources"]["Limits"]
    assert container["User"] == "10001:10001"
    assert container["ReadOnly"]
    assert container["CapabilityDrop"] == ["ALL"]
    assert {"NanoCPUs", "MemoryBytes", "Pids"} <= limits.keys()
    ((secret),) = container["Secrets"]
    assert (secret["File"]["UID"], secret["File"]["Mode"]) == ("10001", 0o400)
    update = spec["UpdateConfig"]
    assert (update["Order"], update["Parallelism"], update["FailureAction"]) == ("stop-first", 1, "rollback")
    assert spec["TaskTemplate"]["RestartPolicy"]["Condition"] == "on-failure"
    assert spec["EndpointSpec"]["Mode"] == "dnsrr"
    pinned = spec["TaskTemplate"]["Placement"].get("Constraints")
    assert pinned == (["node.labels.vasbus.hypervisor == true"] if service == "hypervisor" else None)
