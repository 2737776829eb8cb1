"""What a death costs on tcp, where the processes of a unit may be on different machines."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Figure
from tests.failures.rows import failure
from tests.processes.cluster import WAIT_S, eventually
from tests.processes.tcp.system import Apart, compressed_by_nx, working

FENCE_S, LPAR_LEASE_S, BEAT_S = 6.0, 1.5, 0.2


def ids(system: Apart) -> list[tuple[int, str]]:
    return sorted((row.window_id, row.lpar) for row in system.windows())


@failure(
    "hypervisor",
    "killed and restarted, on tcp with keys, as a process or container of its own",
    seen="Opens, closes and console commands wait; pastes go on.",
    lasts="The start of its process, and what its peers need to notice and come back.",
    kept="Every session, every window and every credit.",
)
def test_a_hypervisor_that_is_killed_and_restarted_costs_nobody_a_window(system: Apart, figure: Figure) -> None:
    with working(system, "lp1", "lp2", "lp3") as clients:
        before = ids(system)
        system.kill("hypervisor")
        assert all(compressed_by_nx(nx) for nx in clients)
        began = time.monotonic()
        system.start("hypervisor")
        system.wait_until_running()
        figure("from the start of its process to everybody back", time.monotonic() - began, "s")
        assert ids(system) == before
        assert all(compressed_by_nx(nx) for nx in clients)


@failure(
    "nxunit",
    "killed and restarted on tcp, with the folder of its lock (`--runtime`) on a disk that outlives it",
    seen="Requests wait or are done in software; a window closed meanwhile counts as in use.",
    lasts="Until it is back: its lock proves that the process before it has ended.",
    kept="Every window.",
)
def test_a_unit_with_a_lock_is_back_without_a_fence(system: Apart, figure: Figure) -> None:
    _since_kill_s, since_back_s = _closed_while_killed(system, "nx0", "lp1")
    figure("from its return to the credit of a window closed meanwhile", since_back_s, "s")
    assert since_back_s < FENCE_S / 2, "the fence counts from its death, and it was back in a fraction of it"


@failure(
    "nxunit",
    "killed and restarted on tcp without a folder for its lock, or on another machine",
    seen="Requests wait or are done in software; a window closed meanwhile counts as in use.",
    lasts="Until it is back; the credits of windows closed meanwhile until its fence (`fence_ms`): nothing proves that "
    "the process before it has ended.",
    kept="Every window.",
)
def test_a_unit_without_a_lock_costs_a_fence_for_windows_closed_meanwhile(system: Apart, figure: Figure) -> None:
    since_kill_s, _since_back_s = _closed_while_killed(system, "nx1", "lp2")
    figure(f"from its death to the credit of a window closed meanwhile (fence {FENCE_S:g} s)", since_kill_s, "s")
    assert since_kill_s >= FENCE_S - BEAT_S


def _closed_while_killed(system: Apart, unit: str, lpar: str) -> tuple[float, float]:
    """Kill a unit, close one of two windows, restart it. Seconds to that credit, from the death and from the return."""
    with working(system, lpar) as (nx,), system.client(lpar) as other, ThreadPoolExecutor(1) as pool:
        leaving = other.open_window()
        assert [row.unit for row in system.windows()] == [unit, unit]
        kept = nx.address
        system.kill(unit)
        died = time.monotonic()
        closing = pool.submit(leaving.close)
        eventually(lambda: any(row.state != "open" for row in system.windows()), "the window is being closed")
        assert system.in_use(lpar) == 2
        system.start(unit)
        system.wait_until_running()
        back = time.monotonic()
        eventually(lambda: system.in_use(lpar) == 1, "its credit is free")
        now = time.monotonic()
        closing.result(WAIT_S)
        assert kept is not None
        assert [row.window_id for row in system.windows()] == [kept.window_id]
        eventually(lambda: compressed_by_nx(nx), "the other window works again")
        return now - died, now - back


def test_a_killed_partition_gives_its_credits_back_and_starts_anew(system: Apart, figure: Figure) -> None:
    with working(system, "lp1", "lp2") as (lost, kept):
        epoch = next(status.epoch for status in system.status().lpars if status.name == "lp1")
        system.kill("lp1")
        took_s = eventually(lambda: system.in_use("lp1") == 0, "its windows are closed")
        figure("partition killed to credits free (lease 1.5 s)", took_s, "s")
        assert took_s < 5 * (LPAR_LEASE_S + BEAT_S)
        system.start("lp1")
        system.wait_until_running()
        assert next(status.epoch for status in system.status().lpars if status.name == "lp1") > epoch
        assert compressed_by_nx(kept)
        assert lost.address is not None
    with working(system, "lp1"):
        assert system.in_use("lp1") == 1
