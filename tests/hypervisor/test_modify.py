"""H_MODIFY_VAS_WINDOW: binds a window to a process by programming its context. Source: domain.md 1."""

from __future__ import annotations

import pytest

from protocol.codes import MODIFY_FLAGS, HcallCode, WindowStatus
from protocol.fabric_messages import ContextProgrammed, ProgramContext
from protocol.hcall_messages import HcallStatus, HDeallocateVasWindow, HModifyVasWindow
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, Kill, told
from tests.hypervisor.fake_lpar import modify


@fidelity(
    "1 hcalls",
    "H_MODIFY_VAS_WINDOW binds a window to the process of an address space; only then are its pastes accepted.",
    source="ML:0bab8a44ac",
)
def test_modify_makes_the_context_that_pastes_need(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    assert not nx0.takes_paste(window)
    assert lp1.modify(window.window_id, 4242) is HcallCode.H_SUCCESS
    assert nx0.takes_paste(window)
    program = next(body for body in nx0.asked if isinstance(body, ProgramContext))
    assert (program.lpar, program.process_id, program.window_credits) == ("lp1", 4242, 1)


@fidelity(
    "1 hcalls", "H_MODIFY_VAS_WINDOW: a window id that the partition does not have is H_PARAMETER.",
    source="ML:0bab8a44ac",
)  # fmt: skip
def test_a_window_that_does_not_exist_is_a_wrong_parameter(cluster: Cluster) -> None:
    assert cluster.lpars["lp1"].modify(999) is HcallCode.H_PARAMETER


def test_another_partitions_window_does_not_exist(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].open_window()
    assert cluster.lpars["lp2"].modify(window.window_id) is HcallCode.H_PARAMETER


def test_a_window_of_an_earlier_incarnation_does_not_exist(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window()
    cluster.units["nx0"].mute = True
    lp1.die()
    lp1.start()
    assert lp1.modify(window.window_id) is HcallCode.H_PARAMETER
    assert lp1.epoch == 2


@fidelity("1 hcalls", "H_MODIFY_VAS_WINDOW: a bad process id is H_P2.", source="ML:0bab8a44ac")
@pytest.mark.parametrize("process_id", [0, 1 << 32, 1 << 63, (1 << 64) - 1])
def test_a_process_id_is_32_bits_and_not_zero(cluster: Cluster, process_id: int) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.allocate()
    assert lp1.modify(window.window_id, process_id) is HcallCode.H_P2
    assert cluster.windows()[0].state == "reserved"


def test_the_highest_process_id_is_good(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    assert lp1.modify(lp1.allocate().window_id, (1 << 32) - 1) is HcallCode.H_SUCCESS


@fidelity("1 hcalls", "H_MODIFY_VAS_WINDOW: a bad thread id is H_P3.", source="ML:0bab8a44ac")
def test_a_thread_id_is_32_bits(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window_id = lp1.allocate().window_id
    body = HModifyVasWindow(window_id=window_id, process_id=7, thread_id=1 << 32, flags=MODIFY_FLAGS)
    assert lp1.status_of(body) is HcallCode.H_P3


@fidelity(
    "1 hcalls", "H_MODIFY_VAS_WINDOW may be busy or long-busy, and is then to be made again.", source="ML:0bab8a44ac"
)
def test_a_unit_that_takes_its_time_makes_modify_long_busy(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    asked_us = cluster.now_us
    assert lp1.status_of(modify(window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    assert cluster.now_us == asked_us + 50_000
    assert lp1.status_of(modify(window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    nx0.mute = False
    nx0.speak()
    assert lp1.modify(window.window_id) is HcallCode.H_SUCCESS


def test_a_waiting_modify_is_answered_as_soon_as_the_unit_has(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    number = lp1.send(modify(window.window_id))
    cluster.advance(20_000)
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    assert lp1.answers[number] == HcallStatus(code=HcallCode.H_SUCCESS)


def test_a_unit_whose_table_is_full_after_all_fails_the_hardware_way(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.limit = 0
    assert lp1.modify(window.window_id) is HcallCode.H_HARDWARE
    assert cluster.pool("lp1") == (40, 1)
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 0)


def test_a_window_that_is_being_closed_cannot_be_modified(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window.window_id))
    assert lp1.status_of(modify(window.window_id)) is HcallCode.H_BUSY


def test_an_open_window_can_be_bound_to_another_process(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    assert lp1.modify(window.window_id, 88) is HcallCode.H_SUCCESS
    assert nx0.contexts[window.window_id].process_id == 88
    assert nx0.takes_paste(window)


@fidelity(
    "1 hcalls", "H_MODIFY_VAS_WINDOW: jobs in progress on the window, which cannot be modified, are H_STATE.",
    source="ML:0bab8a44ac",
)  # fmt: skip
@pytest.mark.parametrize("process_id", [88, 77])
def test_a_window_with_jobs_in_progress_keeps_its_process(cluster: Cluster, process_id: int) -> None:
    """77 is the process that it has: also a change of nothing is refused."""
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 1
    assert lp1.modify(window.window_id, process_id) is HcallCode.H_STATE
    row = cluster.windows()[0]
    assert (row.state, row.status, row.process_id) == ("open", WindowStatus.ACTIVE, 77)
    assert nx0.contexts[window.window_id].process_id == 77
    nx0.complete(window.window_id)
    assert lp1.modify(window.window_id, process_id) is HcallCode.H_SUCCESS


def test_a_request_stopped_by_a_fault_is_a_job_in_progress_until_the_fault_is_fetched(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.open_window(chip=0).window_id
    nx0.fault(window_id)
    cluster.pump()
    assert lp1.modify(window_id, 88) is HcallCode.H_STATE
    assert lp1.fetch(window_id).code is HcallCode.H_SUCCESS
    cluster.pump()
    assert lp1.modify(window_id, 88) is HcallCode.H_SUCCESS
    assert cluster.windows()[0].process_id == 88


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("turns", [1, 2])
def test_a_refused_modify_leaves_the_process_also_when_the_hypervisor_is_killed_meanwhile(
    cluster: Cluster, turns: int, committed: bool
) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.open_window(chip=0).window_id
    nx0.contexts[window_id].in_flight = 1
    cluster.kill = Kill(turns, committed)
    assert lp1.modify(window_id, 88) is HcallCode.H_STATE
    assert cluster.kills == 1
    cluster.advance(2_000_000)
    row = cluster.windows()[0]
    assert (row.state, row.process_id, nx0.contexts[window_id].process_id) == ("open", 77, 77)
    assert lp1.modify(window_id, 88) is HcallCode.H_STATE
    nx0.complete(window_id)
    assert lp1.modify(window_id, 88) is HcallCode.H_SUCCESS


def test_a_restarted_hypervisor_finds_a_busy_window_as_it_left_it(cluster: Cluster) -> None:
    """It may have to program a context again that it had programmed: jobs in progress do not disturb that."""
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.allocate(chip=0).window_id
    cluster.loses = lambda _name, body: isinstance(body, ContextProgrammed)
    lp1.send(modify(window_id))
    cluster.pump()
    nx0.contexts[window_id].in_flight = 1
    assert cluster.core.ledger.windows[window_id].phase == "programming"
    cluster.loses = lambda _name, _body: False
    cluster.restart()
    cluster.wait(lambda: cluster.core.ledger.windows[window_id].phase == "open")
    assert (nx0.contexts[window_id].process_id, nx0.contexts[window_id].in_flight) == (77, 1)
    assert cluster.windows()[0].process_id == 77


def test_the_process_of_the_last_modify_is_the_one_that_the_unit_knows(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    first = lp1.send(modify(window.window_id, 1))
    second = lp1.send(modify(window.window_id, 2))
    cluster.pump()
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    assert [told(lp1.answers[number], HcallStatus).code for number in (first, second)] == [HcallCode.H_SUCCESS] * 2
    assert nx0.contexts[window.window_id].process_id == 2
    assert cluster.windows()[0].process_id == 2


def test_a_programming_that_was_lost_is_repeated(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    lost: list[str] = []

    def lose(_name: str, body: object) -> bool:
        if isinstance(body, ProgramContext) and not lost:
            lost.append(body.type)
            return True
        return False

    cluster.loses = lose
    assert lp1.modify(window.window_id) is HcallCode.H_SUCCESS
    assert lost
    assert nx0.takes_paste(window)
