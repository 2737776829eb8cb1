"""A unit is replaced by a new process of its name: whose word counts for contexts that the old one may have."""

from __future__ import annotations

import pytest

from hypervisor.holders import GUARDS_LIMIT, UNPROVEN, Holders
from hypervisor.rows import UnitGuardRow
from protocol.clock import SECOND_US
from protocol.codes import HcallCode, WindowStatus
from protocol.effects import Effects
from protocol.hcall_messages import HDeallocateVasWindow, HQueryVasWindow, WindowAllocated, WindowState
from tests.failures.rows import failure
from tests.hypervisor.cluster import Cluster, told
from tests.hypervisor.fake_lpar import modify
from tests.hypervisor.fake_unit import FakeUnit
from tests.hypervisor.table_store import TableStore

FENCE_US = 30_100_000
SOON_US = 2 * SECOND_US


def cut_off(cluster: Cluster, unit: FakeUnit) -> int:
    """The unit's process goes on, but its connection is gone and no other gets through. When its fence is certain."""
    session = cluster.core.fabric.sessions[unit.name]
    unit.cut = True
    cluster._disconnect(unit)
    return session.heard_us + FENCE_US


def replaced(cluster: Cluster, guard: bytes, name: str = "nx0") -> FakeUnit:
    """Another process of the unit's name is up, with that guard."""
    other = FakeUnit(cluster, name)
    other.guard = guard
    cluster.units[f"{name} of {guard!r} {len(cluster.units)}"] = other
    other.start()
    cluster.wait(lambda: other.dialer.established and cluster.unit_status(name).state == "running")
    cluster.pump()
    return other


def opened_at(cluster: Cluster) -> tuple[FakeUnit, WindowAllocated]:
    return cluster.units["nx0"], cluster.lpars["lp1"].open_window(chip=0)


@failure(
    "nxunit",
    "replaced by a new process while the old one may be alive, cut off",
    seen="The same windows work at the new process; windows that are closed count as in use.",
    lasts="30 s, the old one's fence; nothing where the new one holds the old one's lock.",
    kept="Every window; no credit is free while somebody may take its pastes.",
)
def test_a_credit_waits_for_the_fence_of_a_replaced_process_that_may_be_alive(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    quiet_us = cut_off(cluster, nx0)
    other = replaced(cluster, b"another machine")
    assert other.takes_paste(window), "the window works at the new process"
    assert cluster.lpars["lp1"].status_of(HDeallocateVasWindow(window_id=window.window_id)).is_busy
    assert not other.takes_paste(window)
    assert nx0.takes_paste(window), "the old one is alive: this is what must not share a credit"
    cluster.advance(quiet_us - cluster.now_us - 1)
    assert cluster.pool("lp1") == (40, 1)
    assert not nx0.takes_paste(window)
    cluster.advance(1)
    assert cluster.lpars["lp1"].status_of(HDeallocateVasWindow(window_id=window.window_id)) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 0)


def test_a_process_with_the_lock_of_the_old_one_proves_that_it_is_gone(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    nx0.die()
    replaced(cluster, nx0.guard)
    before_us = cluster.now_us
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us == before_us


def test_the_credits_of_a_dead_partition_wait_for_the_old_process_too(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    quiet_us = cut_off(cluster, nx0)
    cluster.lpars["lp1"].die()
    replaced(cluster, b"another machine")
    while cluster.pool("lp1") == (40, 1):
        assert cluster.now_us < quiet_us + 1
        cluster.advance(50_000)
    assert not nx0.takes_paste(window)
    assert cluster.now_us >= quiet_us


def test_a_unit_that_comes_back_with_its_own_guard_is_believed_at_once(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    cut_off(cluster, nx0)
    cluster.advance(35 * SECOND_US)
    nx0.cut = False
    cluster.wait(lambda: nx0.takes_paste(window))
    before_us = cluster.now_us
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us - before_us < SOON_US


def test_a_window_that_the_old_process_never_knew_does_not_wait_for_it(cluster: Cluster) -> None:
    nx0, _window = opened_at(cluster)
    quiet_us = cut_off(cluster, nx0)
    replaced(cluster, b"another machine")
    fresh = cluster.lpars["lp1"].open_window(chip=0)
    assert fresh.paste_address is not None
    assert fresh.paste_address.unit == "nx0"
    before_us = cluster.now_us
    assert cluster.lpars["lp1"].deallocate(fresh.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us == before_us < quiet_us


def test_a_restarted_hypervisor_still_waits_for_the_old_process(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    quiet_us = cut_off(cluster, nx0)
    replaced(cluster, b"another machine")
    cluster.restart()
    cluster.wait(lambda: not cluster.status().recovering and cluster.unit_status("nx0").state == "running")
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us >= quiet_us
    assert not nx0.takes_paste(window)


def test_a_restarted_hypervisor_believes_the_unit_that_it_knew(cluster: Cluster) -> None:
    _nx0, window = opened_at(cluster)
    cluster.restart()
    cluster.wait(lambda: not cluster.status().recovering and cluster.unit_status("nx0").state == "running")
    before_us = cluster.now_us
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us - before_us < SOON_US


def test_the_first_process_coming_back_says_nothing_about_the_second(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    nx0.die()
    second = replaced(cluster, b"another machine")
    quiet_us = cut_off(cluster, second)
    third = replaced(cluster, nx0.guard)
    assert third.takes_paste(window)
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us >= quiet_us
    assert not second.takes_paste(window)


def test_without_a_guard_every_restart_costs_a_fence(cluster: Cluster) -> None:
    nx0 = cluster.units["nx0"]
    nx0.die()
    first = replaced(cluster, UNPROVEN)
    window = cluster.lpars["lp1"].open_window(chip=0)
    quiet_us = cut_off(cluster, first)
    replaced(cluster, UNPROVEN)
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us >= quiet_us


def test_a_unit_that_said_bye_is_not_waited_for(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    nx0.contexts.clear()
    nx0.dialer.say_bye()
    cluster.pump()
    nx0.die()
    replaced(cluster, b"another machine")
    before_us = cluster.now_us
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us == before_us


def test_when_the_new_process_is_lost_too_both_fences_are_waited_for(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    cut_off(cluster, nx0)
    other = replaced(cluster, b"another machine")
    other.mute = True
    assert cluster.lpars["lp1"].status_of(HDeallocateVasWindow(window_id=window.window_id)).is_busy
    cluster.advance(10 * SECOND_US)
    quiet_us = cut_off(cluster, other)
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us >= quiet_us


def test_when_the_new_process_takes_leave_the_old_ones_fence_is_waited_for(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    quiet_us = cut_off(cluster, nx0)
    other = replaced(cluster, b"another machine")
    other.contexts.clear()
    other.dialer.say_bye()
    cluster.pump()
    other.die()
    assert nx0.takes_paste(window)
    assert cluster.lpars["lp1"].deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us >= quiet_us
    assert not nx0.takes_paste(window)


def test_nothing_is_asked_of_a_unit_that_has_not_named_its_guard(cluster: Cluster) -> None:
    nx0, window = opened_at(cluster)
    nx0.die()
    nx0.asked.clear()
    cluster.loses = lambda name, body: name == "nx0" and body.type == "unit_ready"
    nx0.start()
    cluster.wait(lambda: nx0.dialer.established)
    cluster.lpars["lp1"].status_of(modify(window.window_id, 78))
    cluster.advance(SOON_US)
    assert nx0.asked == []
    assert cluster.unit_status("nx0").state == "starting"
    cluster.loses = lambda _name, _body: False
    cluster.wait(lambda: nx0.takes_paste(window))


@pytest.mark.parametrize("lost", ["killed", "silent"])
def test_a_window_of_a_lost_unit_is_inactive_by_hardware_failure(cluster: Cluster, lost: str) -> None:
    nx0, window = opened_at(cluster)

    def status() -> WindowStatus:
        return told(cluster.lpars["lp1"].ask(HQueryVasWindow(window_id=window.window_id)), WindowState).status

    assert status() is WindowStatus.ACTIVE
    if lost == "killed":
        nx0.die()
    else:
        nx0.cut = True
    cluster.advance(3 * SECOND_US)
    assert status() is WindowStatus.HARDWARE_FAILURE
    assert {cluster.lpars["lp1"].allocate(chip=0).paste_address.unit for _ in range(3)} == {"nx1"}  # type: ignore[union-attr]
    if lost == "killed":
        nx0.start()
    nx0.cut = False
    cluster.wait(lambda: status() is WindowStatus.ACTIVE)
    assert nx0.takes_paste(window)


# The table of processes.


def stored(effects: Effects, store: TableStore) -> set[bytes]:
    store.commit(effects.take().writes)
    return {row.guard for row in store.rows() if isinstance(row, UnitGuardRow)}


def test_whoever_may_act_as_the_unit_is_stored_until_it_is_quiet() -> None:
    effects, store = Effects(), TableStore()
    holders = Holders("nx0", effects)
    holders.named(b"first", 1)
    assert stored(effects, store) == {b"first"}
    holders.lost(100)
    holders.named(b"second", 2)
    assert (holders.quiet_us, stored(effects, store)) == (100, {b"first", b"second"})
    assert not holders.expire(99)
    assert holders.expire(100)
    assert (holders.quiet_us, stored(effects, store)) == (None, {b"second"})


def test_the_connected_process_stays_stored_when_an_earlier_unproven_one_is_quiet() -> None:
    effects, store = Effects(), TableStore()
    holders = Holders("nx0", effects)
    holders.named(UNPROVEN, 1)
    holders.lost(100)
    holders.named(UNPROVEN, 2)
    assert holders.expire(100)
    assert (holders.quiet_us, stored(effects, store)) == (None, {UNPROVEN})


def test_a_process_that_was_never_asked_anything_leaves_nothing_to_wait_for() -> None:
    holders = Holders("nx0", Effects())
    holders.lost(100)
    assert holders.quiet_us is None


def test_the_table_is_bounded_and_forgets_nobody_too_early() -> None:
    effects, store = Effects(), TableStore()
    holders = Holders("nx0", effects)
    for number in range(3 * GUARDS_LIMIT):
        holders.named(b"process %d" % number, number)
        holders.lost(1_000 + number)
    assert len(holders.away) == GUARDS_LIMIT
    assert len(stored(effects, store)) == GUARDS_LIMIT
    holders.named(b"process 0", 1)
    assert holders.quiet_us == 1_000 + 3 * GUARDS_LIMIT - 1
    holders.expire(1_000 + 2 * GUARDS_LIMIT - 1)
    assert UNPROVEN in holders.away, "the latest of the unproven ones is not quiet yet"
