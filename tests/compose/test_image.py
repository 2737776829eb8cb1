"""What is built."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.compose.conftest import Timed
from tests.compose.project import ROOT, Project, docker
from tests.conftest import Figure

pytestmark = [pytest.mark.compose, pytest.mark.usefixtures("project")]
ADDED_MOST_MB = 60
BASE = os.environ.get("BASE_IMAGE", "python:3.11-slim-bookworm")


def size_mb(image: str) -> float:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


def test_the_image_adds_less_than_sixty_megabytes_to_its_base(figure: Figure) -> None:
    added_mb = size_mb("vasbus") - size_mb(BASE)
    figure("what the image adds to its base", added_mb, "MB")
    assert added_mb < ADDED_MOST_MB


def test_a_change_of_the_source_is_built_in_seconds(timed: Timed, tmp_path: Path) -> None:
    for path in docker_context():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / path).read_bytes())
    core = tmp_path / "protocol" / "clock.py"
    core.write_text(core.read_text() + f"\n# {os.urandom(8).hex()}\n")
    words = ("build", "--quiet", "--file", str(tmp_path / "deploy/Dockerfile"), str(tmp_path))
    built: list[str] = []
    timed("a source change built", 10, lambda: built.append(docker(*words).strip()))
    docker("rmi", built[0])


def docker_context() -> list[Path]:
    """The files that git knows or that are new, as far as the image is built from them."""
    folders = ("deploy", "examples", "hmc", "hypervisor", "lpar", "nxunit", "protocol", "vasbus")
    found = [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    names = ("LICENSE", "README.md", "pyproject.toml", "requirements.lock", ".dockerignore")
    return [path.relative_to(ROOT) for path in found] + [Path(name) for name in names]


@pytest.mark.parametrize("service", ["hypervisor", "nx0", "nx1", "lp1", "lp2", "lp3"])
def test_a_container_has_no_more_rights_than_it_needs(whole: Project, service: str) -> None:
    found = json.loads(docker("inspect", whole.id(service)))[0]
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"]
    assert host["NanoCpus"]
    assert host["PidsLimit"]
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert found["Config"]["StopTimeout"] == 15
    ports = [place for places in host["PortBindings"].values() for place in places]
    assert ports
    assert {place["HostIp"] for place in ports} == {"127.0.0.1"}


REACH = """
import socket, sys
for host, port in [word.rsplit(":", 1) for word in sys.argv[1:]]:
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(host, port, "reached")
    except OSError as error:
        print(host, port, "not reached")
"""


def test_a_client_reaches_its_partition_and_the_units_and_nothing_of_the_hypervisor(whole: Project) -> None:
    networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", whole.id("hypervisor")))
    addresses = [network["IPAddress"] for network in networks.values()]
    closed = [f"{place}:{port}" for place in ("hypervisor", *addresses) for port in (7001, 7002, 7003, 7004)]
    told = whole.run("client", "python", "-c", REACH, "lp1:7101", "nx0:7201", "nx1:7201", *closed).splitlines()
    assert told[:3] == ["lp1 7101 reached", "nx0 7201 reached", "nx1 7201 reached"]
    assert [line for line in told[3:] if not line.endswith("not reached")] == []
