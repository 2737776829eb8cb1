"""What users do with a running project: programs on both sides, the tour, replicas, cores, traffic."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lpar.client import Lpar, NxGzip
from protocol.codes import ExitCode
from tests.compose.conftest import Timed
from tests.compose.project import ROOT, DockerFailed, Project, docker
from tests.conftest import Figure
from tests.processes.cluster import eventually

pytestmark = pytest.mark.compose
SLOTS = 8
TEXT = b"a partition of a replica " * 10_000


def compressed_by_nx(lpar: Lpar) -> int:
    """How many bytes an NX unit took."""
    with NxGzip(lpar, small_bytes=0) as nx:
        assert gzip.decompress(nx.compress(TEXT)) == TEXT
        return nx.statistics().compress.nx_bytes


def test_the_same_script_works_inside_and_on_the_host(whole: Project, tmp_path: Path) -> None:
    script, source = "examples/compress_file.py", "examples/compress_file.py"
    inside = whole.run("client", "python", script, "tcp://lp1:7101", source, "/tmp/out.gz")
    env = {**os.environ, "VASBUS_NETWORK": "host", "VASBUS_KEYS": str(whole.key_file("client:lp1"))}
    words = [sys.executable, script, f"tcp://127.0.0.1:{whole.ports['LP1']}", source, str(tmp_path / "out.gz")]
    outside = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True).stdout
    assert inside == outside
    assert outside.splitlines()[-1].endswith("bytes by nx")
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == (ROOT / source).read_bytes()


def test_the_tour_holds(whole: Project, timed: Timed) -> None:
    told: list[str] = []
    timed("the tour", 60, lambda: told.append(whole.run("demo")))
    assert "The tour held: " in told[0]


def test_eight_replicas_claim_the_slots_and_give_them_back(whole: Project, timed: Timed) -> None:
    before = whole.status()
    timed("eight replicas started and healthy", 30, lambda: whole.up("--scale", f"lpar={SLOTS}"))
    status = whole.status()
    assert status.slots is not None
    assert status.slots.claimed == SLOTS
    names = [f"lpar-{number:02d}" for number in range(1, SLOTS + 1)]
    assert [name for name in whole.running() if name.startswith("lpar-")] == names
    assert status.hundredths_free == before.hundredths_free - SLOTS * 100
    for index in (1, SLOTS):
        with whole.replica(index) as lpar:
            assert compressed_by_nx(lpar) == len(TEXT)
    timed("eight replicas stopped", 15, lambda: whole.up("--scale", "lpar=0"))
    after = whole.status()
    assert after.slots is not None
    assert after.slots.claimed == 0
    assert after.hundredths_free == before.hundredths_free


def test_one_replica_too_many_says_so_and_stops(whole: Project) -> None:
    whole.up("--scale", f"lpar={SLOTS}")
    with pytest.raises(DockerFailed):
        whole.up("--scale", f"lpar={SLOTS + 1}")
    # It asks for two leases, as a dead replica's slot may come back; then it ends, and after some more tries for good.
    eventually(lambda: "slots_full" in whole.logs("lpar"), "it says why", 90)
    eventually(lambda: any(ended(whole, index) for index in range(1, SLOTS + 2)), "it ends", 90)


def ended(project: Project, index: int) -> bool:
    return project.state("lpar", index)["ExitCode"] == ExitCode.REFUSED


def test_cores_and_credits_move_under_load(whole: Project) -> None:
    whole.compose("up", "--detach", "load")
    try:
        eventually(lambda: "requests right" in whole.logs("load"), "there is traffic")
        with whole.console() as console:
            for name, cores in (("lp1", -1), ("lp2", 1), ("lp2", -1), ("lp1", 1)):
                applied = console.change_processors(name, cores)
                assert applied.total_after in (20, 40, 60)
            assert console.set_qos_credits("lp1", 4).total_after == 4
            assert console.set_qos_credits("lp1", 0).total_after == 0
        assert whole.state("load")["Running"]
    finally:
        whole.compose("stop", "load")
    assert whole.state("load")["ExitCode"] == 0


def test_metrics_are_served_in_every_container(whole: Project, figure: Figure) -> None:
    read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
    for service in ("hypervisor", "nx0", "lp1"):
        told = docker("exec", whole.id(service), "python", "-c", read)
        assert "vasbus_" in told
        figure(f"metrics of {service}", len(told.splitlines()), "lines")
