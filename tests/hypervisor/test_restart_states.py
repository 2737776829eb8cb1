"""kill -9 of the hypervisor while something is half done: each step that was answered for is found again."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.fabric_messages import ProgramContext
from protocol.hcall_messages import HDeallocateVasWindow, WindowAllocated
from protocol.refusals import RefusalCode
from tests.hypervisor.cluster import Cluster, settings
from tests.hypervisor.fake_lpar import modify
from tests.hypervisor.fake_unit import Held

LEASE_US = 10_100_000


def bring_to(cluster: Cluster, phase: str) -> WindowAllocated:
    """A window of lp1 on nx0 in this phase."""
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate(chip=0)
    if phase == "reserved":
        return window
    nx0.mute = phase == "programming"
    lp1.status_of(modify(window.window_id))
    if phase in ("closing", "quiesced"):
        nx0.contexts[window.window_id].in_flight = 1
        assert lp1.status_of(HDeallocateVasWindow(window_id=window.window_id)).is_busy
    if phase == "quiesced":
        nx0.complete(window.window_id)
        cluster.pump()
    return window


PHASES = ["reserved", "programming", "open", "closing", "quiesced"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_window_is_after_the_restart_where_it_was(cluster: Cluster, phase: str) -> None:
    window = bring_to(cluster, phase)
    assert [row.state for row in cluster.windows()] == [phase]
    cluster.restart()
    assert [row.state for row in cluster.windows()] == [phase]
    cluster.units["nx0"].mute = False
    cluster.advance(3 * SECOND_US)
    assert [row.state for row in cluster.windows()] == ["open" if phase == "programming" else phase]
    assert cluster.units["nx0"].takes_paste(window) == (phase in ("programming", "open"))
    assert cluster.pool("lp1") == (40, 1)


def test_a_window_that_was_being_closed_takes_no_paste_after_the_restart(cluster: Cluster) -> None:
    """Not even when its unit has lost the context meanwhile: nothing programs it again."""
    window = bring_to(cluster, "closing")
    nx0 = cluster.units["nx0"]
    nx0.die()
    cluster.restart()
    nx0.start()
    cluster.advance(5 * SECOND_US)
    assert not nx0.takes_paste(window)
    assert not [body for body in nx0.asked if isinstance(body, ProgramContext)][1:]
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 0)


def test_a_partition_that_was_dead_before_the_restart_is_dead_after_it(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.open_window()
    lp1.cut = True
    cluster.advance(LEASE_US + SECOND_US)
    assert cluster.pool("lp1") == (40, 0)
    cluster.restart()
    assert cluster.lpar_status("lp1").state == "not_activated"
    lp1.cut = False
    cluster.wait(lambda: lp1.ended is not None)
    assert lp1.ended is not None
    assert lp1.ended.code is RefusalCode.SESSION_DEAD
    lp1.start()
    cluster.wait(lambda: lp1.dialer.established)
    assert lp1.epoch == 2
    assert cluster.windows() == []


def test_a_fence_that_the_restart_interrupted_goes_on(cluster: Cluster) -> None:
    """Nobody deallocates these windows: a credit that is not freed here is lost."""
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    bound, unbound = lp1.open_window(chip=0), lp1.allocate(chip=0)
    nx0.contexts[bound.window_id].in_flight = 1
    lp1.die()
    cluster.advance(LEASE_US + SECOND_US)
    assert [(row.window_id, row.state) for row in cluster.windows()] == [(bound.window_id, "fenced")]
    assert unbound.window_id not in nx0.contexts
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    assert cluster.pool("lp1") == (40, 1)
    nx0.complete(bound.window_id)
    cluster.pump()
    assert (cluster.pool("lp1"), nx0.contexts) == ((40, 0), {})


def test_a_partition_that_the_system_no_longer_has_gives_its_windows_back(cluster: Cluster) -> None:
    lp3 = cluster.lpars["lp3"]
    lp3.open_window(chip=0)
    reserved = lp3.allocate(chip=1)
    cluster.system = settings(lpar=[{"name": "lp1", "cores": 2, "home_chip": 0}])
    cluster.restart()
    assert reserved.window_id not in {row.window_id for row in cluster.windows()}
    cluster.advance(3 * SECOND_US)
    assert cluster.windows() == []
    assert [unit.contexts for unit in cluster.units.values()] == [{}, {}]


@pytest.mark.parametrize("restarted", ["hypervisor", "session"])
def test_a_context_that_nobody_knows_takes_no_pastes_for_long(cluster: Cluster, restarted: str) -> None:
    nx0 = cluster.units["nx0"]
    nx0.contexts[4711] = Held(b"unknown-unknown-", 1)
    if restarted == "hypervisor":
        cluster.restart()
    else:
        nx0.die()
        held = dict(nx0.contexts)
        nx0.start()
        nx0.contexts = held
    cluster.advance(5 * SECOND_US)
    assert nx0.contexts == {}
