"""Faults outlive units, partitions and the hypervisor itself, and hold nothing up. Source: design.md, domain.md 5.8."""

from __future__ import annotations

import pytest

from hypervisor.rows import FaultRow, Put
from hypervisor.unit import context_wanted
from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.fabric_messages import CloseContext, ReturnCredit
from protocol.hcall_messages import HcallStatus, HDeallocateVasWindow, HGetNxFault
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, Kill, settings, told
from tests.hypervisor.fake_lpar import modify
from tests.hypervisor.fake_unit import Held, fault_of
from tests.hypervisor.faulted import faulted, opened, rows

LEASE_US = 11 * SECOND_US
FENCE_US = 31 * SECOND_US


# The window goes.


@fidelity(
    "1 hcalls",
    "H_DEALLOCATE_VAS_WINDOW is busy until every request of the window is over, faulted ones included.",
    source="K:vas.c",
)
def test_a_deallocation_is_long_busy_until_the_fault_is_fetched(cluster: Cluster) -> None:
    window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
    deallocate = HDeallocateVasWindow(window_id=window_id)
    assert lp1.status_of(deallocate) is HcallCode.H_LONG_BUSY_ORDER_1_MSEC
    for _ in range(3):
        assert lp1.status_of(deallocate) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    assert lp1.fetch(window_id).number == 1
    assert lp1.deallocate(window_id) is HcallCode.H_SUCCESS
    assert (rows(cluster), cluster.pool("lp1"), cluster.units["nx0"].contexts) == ([], (40, 0), {})


def test_a_deallocation_that_waits_ends_with_the_fetching(cluster: Cluster) -> None:
    window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    number = lp1.send(HDeallocateVasWindow(window_id=window_id))
    assert lp1.fetch(window_id).number == 1
    cluster.pump()
    assert number in lp1.answers
    assert lp1.fetch(window_id).code is HcallCode.H_PARAMETER


def test_the_credit_may_be_returned_before_or_after_the_close_arrives(cluster: Cluster) -> None:
    """ReturnCredit runs beside a close: a lost close comes after it, a lost ReturnCredit after the close."""
    for lost in (CloseContext, ReturnCredit):
        window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
        losses = [1]
        cluster.loses = lambda _name, body, lost=lost, losses=losses: (
            isinstance(body, lost)
            and bool(  # type: ignore[misc]
                losses and losses.pop()
            )
        )
        lp1.send(HDeallocateVasWindow(window_id=window_id))
        lp1.send(HGetNxFault(window_id=window_id, buffer_address=0))
        cluster.wait(lambda: not cluster.units["nx0"].contexts)
        assert lp1.deallocate(window_id) is HcallCode.H_SUCCESS
    assert cluster.windows() == []


def test_the_faults_of_a_dead_partition_do_not_hold_its_windows(cluster: Cluster) -> None:
    faulted(cluster)
    cluster.lpars["lp1"].die()
    cluster.advance(LEASE_US)
    assert (cluster.windows(), rows(cluster), cluster.units["nx0"].contexts) == ([], [], {})


def test_a_fault_that_comes_after_the_death_of_its_partition_does_not_hold_the_window(cluster: Cluster) -> None:
    window_id, nx0 = opened(cluster), cluster.units["nx0"]
    nx0.contexts[window_id].in_flight = 1
    cluster.lpars["lp1"].die()
    cluster.advance(LEASE_US)
    assert [row.state for row in cluster.windows()] == ["fenced"]
    nx0.fault(window_id)
    nx0.complete(window_id)
    cluster.pump()
    assert (cluster.windows(), rows(cluster), nx0.contexts) == ([], [], {})


def test_a_restarted_partition_does_not_inherit_faults(cluster: Cluster) -> None:
    window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
    lp1.die()
    lp1.start()
    cluster.wait(lambda: lp1.dialer.established)
    cluster.advance(2 * SECOND_US)
    assert lp1.interrupts == []
    assert lp1.fetch(window_id).code is HcallCode.H_PARAMETER
    assert cluster.windows() == []


@pytest.mark.parametrize("window_id", [4711, 0])
def test_a_fault_of_a_window_that_is_not_in_the_ledger_holds_nothing(cluster: Cluster, window_id: int) -> None:
    nx0 = cluster.units["nx0"]
    nx0.send(fault_of(window_id, 1))
    cluster.pump()
    assert nx0.asked[-1] == ReturnCredit(window_id=window_id, number=1)
    assert (rows(cluster), (window_id, 1) in nx0.noted) == ([], True)


def test_a_fault_of_a_ledger_that_was_put_aside_is_nobodys_in_the_next_one(cluster: Cluster) -> None:
    """The unit has a context with the id of a new window, and a request of it runs when it is to be closed."""
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    nx0.die()
    nx0.start()
    nx0.contexts[1] = Held(b"of-another-one--", 1, in_flight=1)
    cluster.wait(lambda: cluster.unit_status("nx0").state == "running")
    cluster.pump()
    window = lp1.allocate(chip=0)
    assert (window.window_id, nx0.contexts[1].closers != []) == (1, True)
    number = lp1.send(modify(1))
    cluster.pump()
    nx0.contexts[1].in_flight = 0
    nx0.fault(1, 7)
    cluster.pump()
    assert (rows(cluster), lp1.interrupts) == ([], [])
    assert nx0.asked[-2:] == [ReturnCredit(window_id=1, number=7), context_wanted(cluster.core.ledger.windows[1])]
    assert told(lp1.answers[number], HcallStatus).code is HcallCode.H_SUCCESS
    assert nx0.takes_paste(window)
    assert lp1.fetch(1).code is HcallCode.H_STATE


def test_a_unit_has_no_say_in_another_units_windows(cluster: Cluster) -> None:
    window_id = opened(cluster)
    cluster.units["nx1"].send(fault_of(window_id, 1, cluster.units["nx0"].contexts[window_id].token))
    cluster.pump()
    assert (rows(cluster), cluster.lpars["lp1"].interrupts) == ([], [])


def test_a_unit_cannot_fill_the_table_with_one_window(cluster: Cluster) -> None:
    window_id, nx0, lp1 = opened(cluster), cluster.units["nx0"], cluster.lpars["lp1"]
    for number in range(1, 101):
        nx0.send(fault_of(window_id, number, nx0.contexts[window_id].token))
    cluster.pump()
    assert [number for number, _ in rows(cluster)] == list(range(93, 101))
    assert lp1.fetch(window_id).number == 93


def test_a_unit_that_returns_nothing_is_put_off_in_the_end(cluster: Cluster) -> None:
    nx0 = cluster.units["nx0"]
    nx0.mute = True
    for number in range(10_200):
        nx0.send(fault_of(4711, number))
    cluster.pump()
    assert len(nx0.noted) == 10_064
    nx0.mute = False
    nx0.speak()
    cluster.wait(lambda: len(nx0.noted) == 10_200)


# Units come and go.


def test_a_fault_that_was_fetched_while_its_unit_was_away_is_settled_by_its_return(cluster: Cluster) -> None:
    window_id, lp1, nx0 = faulted(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    nx0.cut = True
    cluster.advance(5 * SECOND_US)
    assert lp1.fetch(window_id).number == 1
    assert rows(cluster) == [(1, "fetched")]
    nx0.cut = False
    cluster.wait(lambda: not nx0.faults)
    cluster.pump()
    assert rows(cluster) == [(1, "settled")]


def test_the_fault_of_a_unit_that_died_wakes_whoever_waits_for_the_request(cluster: Cluster) -> None:
    window_id, lp1, nx0 = faulted(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    nx0.die()
    nx0.start()
    cluster.wait(lambda: window_id in nx0.contexts)
    assert lp1.fetch(window_id).number == 1
    cluster.pump()
    assert rows(cluster) == [(1, "settled")]


def test_a_fault_at_a_unit_that_never_returns_does_not_hold_the_window_beyond_the_fence(cluster: Cluster) -> None:
    window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
    cluster.units["nx0"].die()
    cluster.advance(FENCE_US)
    assert lp1.deallocate(window_id) is HcallCode.H_SUCCESS
    assert rows(cluster) == []


def test_what_a_lost_session_had_asked_of_a_unit_does_not_stand_in_the_way(cluster: Cluster) -> None:
    window_id, lp1, nx0 = opened(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    nx0.mute = True
    for number in range(200):
        nx0.send(fault_of(4711, number))
    cluster.pump()
    nx0.die()
    nx0.mute = False
    nx0.start()
    cluster.wait(lambda: window_id in nx0.contexts)
    nx0.fault(window_id)
    cluster.pump()
    assert lp1.fetch(window_id).number == 1
    cluster.pump()
    assert nx0.faults == []


def test_faults_of_a_partition_and_a_unit_that_the_system_no_longer_has_are_gone(cluster: Cluster) -> None:
    faulted(cluster)
    del cluster.units["nx0"], cluster.lpars["lp1"]
    chips, lpars = cluster.system.model_dump()["chip"], cluster.system.model_dump()["lpar"]
    cluster.system = settings(chip=chips[1:], lpar=lpars[1:])
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    assert (cluster.windows(), rows(cluster)) == ([], [])


def test_a_fault_whose_window_is_not_in_the_ledger_is_dropped_at_the_start(cluster: Cluster) -> None:
    cluster.store.commit([Put(FaultRow(4711, bytes(8), 2, "source", bytes(8), bytes(8), "waiting"))])
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    assert rows(cluster) == []


# kill -9 of the hypervisor.


def test_what_waits_interrupts_again_after_a_restart(cluster: Cluster) -> None:
    window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
    lp1.notices.clear()
    cluster.restart()
    cluster.wait(lambda: (window_id, 1) in lp1.interrupts, 3 * SECOND_US)
    assert lp1.fetch(window_id).number == 1


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5])
def test_kill_9_at_any_step_loses_no_fault_and_serves_none_twice(cluster: Cluster, turns: int, committed: bool) -> None:
    window_id, lp1, nx0 = opened(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    cluster.kill = Kill(turns, committed)
    nx0.fault(window_id)
    cluster.wait(lambda: (window_id, 1) in lp1.interrupts)
    assert lp1.fetch(window_id).number == 1
    cluster.wait(lambda: not nx0.faults)
    assert lp1.fetch(window_id).code is HcallCode.H_STATE
    cluster.kill = None
    cluster.advance(5 * SECOND_US)
    assert (nx0.faults, rows(cluster)) == ([], [(1, "settled")])


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_kill_9_while_a_faulted_window_closes(cluster: Cluster, turns: int, committed: bool) -> None:
    window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
    cluster.kill = Kill(turns, committed)
    assert lp1.status_of(HDeallocateVasWindow(window_id=window_id)).is_busy
    assert lp1.fetch(window_id).number == 1
    assert lp1.deallocate(window_id) is HcallCode.H_SUCCESS
    cluster.advance(5 * SECOND_US)
    assert (cluster.windows(), rows(cluster)) == ([], [])


def test_a_fenced_windows_fault_is_let_go_by_the_next_hypervisor(cluster: Cluster) -> None:
    faulted(cluster)
    cluster.lpars["lp1"].die()
    cluster.kill = Kill(1, committed=True)
    cluster.advance(LEASE_US)
    assert cluster.kills == 1
    cluster.advance(2 * LEASE_US)
    assert (cluster.windows(), rows(cluster), cluster.units["nx0"].contexts) == ([], [], {})
