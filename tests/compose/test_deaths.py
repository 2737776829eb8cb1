"""Containers that are killed, stopped, paused and disconnected: what docs/failures.md says, on a real engine."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lpar.client import Lpar, NxGzip, Window
from tests.compose.conftest import Timed
from tests.compose.project import Project, docker
from tests.overload.neighbour import REQUEST
from tests.processes.cluster import eventually

pytestmark = pytest.mark.compose
LEASE_S = 10.0
TEXT = b"what a container's death must not change " * 5_000
WITHIN_LEASE_S = 3.0
"""Long enough for suspicion (3 s); a lease is 10 s."""


@contextmanager
def programs(project: Project) -> Iterator[list[tuple[Lpar, Window]]]:
    """A program on each partition with a window that works, and works again afterwards."""
    lpars = [project.lpar(name) for name in ("lp1", "lp2", "lp3")]
    try:
        held = [(lpar, lpar.open_window()) for lpar in lpars]
        assert all(works(window) for _, window in held)
        yield held
    finally:
        for lpar in lpars:
            lpar.close()


def works(window: Window) -> bool:
    """Whether a request on it is done by its NX unit before long."""
    try:
        return window.run(REQUEST, 5).code == 0
    except TimeoutError:
        return False


def rows(project: Project) -> set[tuple[int, str, str]]:
    return {(row.window_id, row.lpar, row.unit) for row in project.windows()}


def test_the_hypervisor_killed_under_load_loses_no_window(whole: Project, timed: Timed) -> None:
    with programs(whole) as held, NxGzip(held[0][0], small_bytes=0) as nx:
        nx.compress(TEXT)
        before = rows(whole)
        whole.kill("hypervisor")
        for _ in range(20):
            assert gzip.decompress(nx.compress(TEXT)) == TEXT  # Pastes go on meanwhile.
        whole.start("hypervisor")
        timed("hypervisor killed: back and answering", 10, lambda: eventually(lambda: answers(whole), "it answers"))
        eventually(lambda: whole.running() == ["lp1", "lp2", "lp3"], "every partition is back")
        assert rows(whole) == before
        assert all(works(window) for _, window in held)
        assert nx.statistics().compress.software_bytes == 0
        held[0][0].open_window().close()


def answers(project: Project) -> bool:
    try:
        return bool(project.status())
    except OSError:
        return False


def test_a_unit_killed_and_started_again_has_its_windows_back(whole: Project, timed: Timed) -> None:
    with programs(whole) as held:
        before = rows(whole)
        whole.kill("nx0")
        whole.start("nx0")
        timed("NX unit killed: its windows work again", 10, lambda: eventually(
            lambda: all(works(window) for _, window in held), "every window works"))  # fmt: skip
        assert rows(whole) == before


def test_a_killed_partition_gives_back_its_credits_and_comes_again(whole: Project, timed: Timed) -> None:
    with programs(whole):
        others = {row for row in rows(whole) if row[1] != "lp2"}
        whole.kill("lp2")
        timed("partition killed: credits free (lease 10 s)", 2 * LEASE_S, lambda: eventually(
            lambda: rows(whole) == others, "its windows are closed"))  # fmt: skip
        whole.start("lp2")
        timed("partition started again", 10, lambda: eventually(lambda: "lp2" in whole.running(), "it runs"))
        with whole.lpar("lp2") as lpar:
            assert works(lpar.open_window())


def test_a_killed_replica_frees_its_slot_and_its_cores(whole: Project, timed: Timed) -> None:
    free = whole.status().hundredths_free
    whole.up("--scale", "lpar=1")
    assert whole.status().hundredths_free == free - 100
    whole.kill("lpar")
    timed("replica killed: slot and cores free (lease 10 s)", 2 * LEASE_S, lambda: eventually(
        lambda: whole.status().hundredths_free == free, "its cores are free"))  # fmt: skip
    whole.start("lpar")
    eventually(lambda: "lpar-01" in whole.running(), "it claims a slot anew")


@pytest.mark.parametrize(
    ("service", "network"),
    [("hypervisor", "fabric"), ("nx0", "fabric"), ("nx0", "device"), ("lp1", "fabric"), ("lp1", "device")],
)
def test_a_container_cut_off_for_less_than_its_lease_notices_nothing(
    whole: Project, service: str, network: str
) -> None:
    with programs(whole) as held:
        before, name = rows(whole), f"{whole.name}_{network}"
        docker("network", "disconnect", name, whole.id(service))
        time.sleep(WITHIN_LEASE_S)  # What is tested is a duration.
        docker("network", "connect", "--alias", service, name, whole.id(service))
        eventually(lambda: answers(whole) and whole.running() == ["lp1", "lp2", "lp3"], "all have resumed")
        assert rows(whole) == before
        inside = whole.run("client", "python", "examples/compress_file.py", "tcp://lp1:7101", "examples/README.md",
                           "/tmp/o.gz")  # fmt: skip
        assert inside.splitlines()[-1].endswith("bytes by nx")
        if network == "fabric":  # The other network carries the host's own connections, whose ports docker moves.
            assert all(works(window) for _, window in held)


def test_a_partition_cut_off_for_longer_restarts_and_its_clients_are_told(whole: Project, timed: Timed) -> None:
    with programs(whole) as held:
        others = {row for row in rows(whole) if row[1] != "lp3"}
        docker("network", "disconnect", f"{whole.name}_fabric", whole.id("lp3"))
        timed("partition cut off: credits free (lease 10 s)", 2 * LEASE_S, lambda: eventually(
            lambda: rows(whole) == others, "its windows are closed"))  # fmt: skip
        docker("network", "connect", "--alias", "lp3", f"{whole.name}_fabric", whole.id("lp3"))
        eventually(lambda: "lp3" in whole.running(), "it has restarted")
        lpar, window = held[2]
        with pytest.raises(OSError):
            window.run(REQUEST, 5)
        assert "partition_restarted" in whole.logs("lp3")
        assert not lpar.is_alive
    with whole.lpar("lp3") as again:
        assert works(again.open_window())


@pytest.mark.parametrize("service", ["hypervisor", "nx1", "lp1"])
def test_a_paused_container_goes_on_as_if_nothing_had_happened(whole: Project, service: str) -> None:
    with programs(whole) as held:
        before = rows(whole)
        docker("pause", whole.id(service))
        time.sleep(WITHIN_LEASE_S)  # What is tested is a duration.
        docker("unpause", whole.id(service))
        eventually(lambda: whole.running() == ["lp1", "lp2", "lp3"], "all have resumed")
        assert rows(whole) == before
        assert all(works(window) for _, window in held)


def test_a_stopped_container_drains_and_ends_with_0(whole: Project, timed: Timed) -> None:
    with programs(whole):
        others = {row for row in rows(whole) if row[1] != "lp2"}
        timed("partition stopped in order", 5, lambda: whole.compose("stop", "lp2"))
        assert whole.state("lp2")["ExitCode"] == 0
        assert rows(whole) == others
