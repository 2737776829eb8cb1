"""What is wrong stops the container that it is wrong for, with one clear line and an exit code of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from tests.compose.project import ROOT, DockerFailed, Project, docker

pytestmark = pytest.mark.compose
SYSTEM = (ROOT / "deploy/compose/system.toml").read_text()
LPAR = ("serve", "lpar", "lp1", "--system=/etc/vasbus/system.toml", "--keys=/keys/own.keys", "--metrics=off")
DIALS = (
    "--dial=hcall=tcp://hypervisor:7001",
    "--listen=device=tcp://0.0.0.0:7101",
    "--advertise=inside=tcp://other:7101",
)


def ending(project: Project, service: str, *words: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """How a one-shot container of a service ends, and its last line."""
    command = ["docker", "compose", "run", "--rm", "--no-TTY", "--no-deps", *options, service, *words]
    done = subprocess.run(command, cwd=ROOT, env=project.env, capture_output=True, text=True, timeout=120)
    return done.returncode, (done.stderr + done.stdout).strip().splitlines()[-1]


def test_a_missing_key_file(whole: Project) -> None:
    code, said = ending(whole, "lp1", *LPAR[:4], "--keys=/keys/absent.keys", "--metrics=off", *DIALS)
    assert code == ExitCode.KEYS
    assert "/keys/absent.keys" in said


def test_the_key_of_another_partition(whole: Project) -> None:
    code, said = ending(whole, "lp2", *LPAR, *DIALS)
    assert code == ExitCode.KEYS
    assert "expected a secret key of lpar:lp1, there are those of:" in said


def test_two_partitions_of_one_name(whole: Project) -> None:
    code, said = ending(whole, "lp1", *LPAR, *DIALS)
    assert code == ExitCode.REFUSED
    assert "name_held" in said
    assert "lp1" in whole.running()


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (SYSTEM.replace("cores = 8", "corez = 8", 1), "corez"),
        (SYSTEM.replace("count = 8", "count = 30"), "slots"),
        ("[system", "bad.toml:1"),
    ],
)
def test_a_bad_system_file(whole: Project, tmp_path: Path, changed: str, names: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(changed)
    tmp_path.chmod(0o755)
    words = ("serve", "hypervisor", "--system=/bad.toml", "--ledger=/tmp/ledger", "--keys=/keys/own.keys")
    code, said = ending(whole, "hypervisor", *words, options=("--volume", f"{path}:/bad.toml:ro"))
    assert code == ExitCode.SETTINGS
    assert names in said


def test_a_port_of_the_host_that_is_in_use(whole: Project, tmp_path: Path) -> None:
    other = Project(tmp_path, name=f"{whole.name}-other", ports=dict(whole.ports))
    try:
        with pytest.raises(DockerFailed, match=r"port is already allocated|address already in use"):
            other.up("hypervisor")
    finally:
        other.down()


def test_a_full_volume(whole: Project) -> None:
    name = f"{whole.name}-full"
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=16k,uid=10001,mode=0700")
    docker("volume", "create", *options, name)
    try:
        code, said = ending(
            whole, "hypervisor", "serve", "hypervisor", "--system=/etc/vasbus/system.toml",
            "--ledger=/full/ledger", "--keys=/keys/own.keys", "--listen=hcall=tcp://127.0.0.1:7001",
            "--listen=fabric=tcp://127.0.0.1:7002", "--listen=hmc=tcp://127.0.0.1:7003",
            "--listen=telemetry=tcp://127.0.0.1:7004", "--metrics=off", options=("--volume", f"{name}:/full"),
        )  # fmt: skip
    finally:
        docker("volume", "rm", name)
    assert code == ExitCode.STORE_FULL
    assert "/full/ledger" in said
