"""Hcalls that fail while windows are closed or reopened: what vas.c leaves behind then (domain.md 5.5)."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import OsFailure, TxWinOpen
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
)
from tests.fidelity.rows import fidelity
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, booted


@fidelity(
    "5 reconfigure",
    "A failed H_DEALLOCATE ends the closing with the flag set and the window not counted, so the counter goes "
    "negative later.",
    source="K:vas.c",
)
@fidelity("5 reconfigure", "The new total is set before the first hcall, and stands when one fails.", source="K:vas.c")
def test_a_failed_deallocation_aborts_with_the_flag_set_and_the_counter_unchanged() -> None:
    partition = booted(4)
    windows = partition.open_windows(4)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_SUCCESS, HcallCode.H_STATE)
    report = partition.retarget(1)
    assert not report.accepted
    assert report.closed == (4,)
    assert "H_STATE" in report.error
    assert partition.with_status("no_cred_close") == [4, 3]
    assert partition.pool().nr_close == 1
    assert partition.credits() == (1, 4)
    partition.close(windows[3])
    partition.close(windows[2])
    assert partition.pool().nr_close == -1
    client = partition.process()
    partition.retarget(9)
    partition.fails(client, TxWinOpen(descriptor=partition.device(client)), KernelReason.CLOSED_WINDOWS)


@fidelity(
    "5 reconfigure",
    "A failed H_ALLOCATE ends the reopening; what was reopened until then stays open.",
    source="K:vas.c",
)
def test_a_failed_allocation_ends_the_reopening() -> None:
    partition = booted(4)
    partition.open_windows(4)
    partition.retarget(0)
    partition.hypervisor.enforces = True
    partition.hypervisor.targets[CreditType.DEFAULT] = 4
    partition.hypervisor.windows[900] = CreditType.DEFAULT
    partition.hypervisor.windows[901] = CreditType.DEFAULT
    report = partition.retarget(4)
    assert not report.accepted
    assert len(report.reopened) == 2
    assert partition.with_status("active") == [4, 3]
    assert partition.pool().nr_close == 2


@fidelity(
    "5 reconfigure",
    "With more windows closed than credits gained, the difference is skipped from the head of the list, and "
    "open windows count in it.",
    source="K:vas.c",
)
def test_the_skip_counts_list_entries_whether_they_are_closed_or_not() -> None:
    partition = booted(10)
    partition.open_windows(10)
    partition.retarget(5)
    partition.hypervisor.fails_at(HAllocateVasWindow, 1, HcallCode.H_CONSTRAINED)
    assert partition.order_of(partition.retarget(8).reopened) == [8]
    assert partition.with_status("no_cred_close") == [10, 9, 7, 6]
    assert partition.order_of(partition.retarget(9).reopened) == [7, 6]
    assert partition.with_status("no_cred_close") == [10, 9]


@fidelity(
    "5 reconfigure",
    "A failed H_MODIFY while reopening deallocates the new window and ends the reopening; the flag stays.",
    source="K:vas.c",
)
def test_a_failed_modify_gives_the_window_back_and_keeps_the_flag() -> None:
    partition = booted(2)
    partition.open_windows(2)
    partition.retarget(0)
    partition.hypervisor.returns(HModifyVasWindow, HcallCode.H_P2)
    partition.hypervisor.made.clear()
    report = partition.retarget(2)
    assert not report.accepted
    assert report.reopened == ()
    kinds = [type(call) for call in partition.hypervisor.made]
    assert kinds == [HQueryVasCapabilities, HAllocateVasWindow, HModifyVasWindow, HDeallocateVasWindow]
    assert not partition.hypervisor.windows
    assert partition.with_status("no_cred_close") == [2, 1]


def test_a_failing_reconfiguration_by_write_is_einval() -> None:
    partition = booted(0, qos=2)
    partition.open_windows(2, qos=True)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    failure = partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "0"), OsFailure)
    assert (failure.errno, failure.reason, failure.hcall) == (22, KernelReason.RECONFIGURE, HcallCode.H_STATE)


@fidelity(
    "5 reconfigure",
    "Windows that are closed already are passed over, but gain the flag of the new reason.",
    source="K:vas.c",
)
def test_a_removal_flags_what_a_migration_closed_without_another_hcall() -> None:
    partition = booted(4)
    partition.open_windows(4)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    assert not partition.retarget(3).accepted
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.fails_at(HAllocateVasWindow, 1, HcallCode.H_CONSTRAINED)
    partition.core.resume(partition.now_us)
    partition.settle()
    assert (partition.with_status("active"), partition.with_status("migrate_close")) == ([3], [2, 1])
    partition.hypervisor.made.clear()
    reopened = partition.window(3).window_id
    assert partition.retarget(0).closed == (reopened,)
    assert partition.hypervisor.made[1:] == [HDeallocateVasWindow(window_id=reopened)]
    assert partition.with_status("no_cred_close") == [4, 3]
    assert partition.with_status("no_cred_close|migrate_close") == [2, 1]


@fidelity(
    "5 reconfigure",
    "Reopening ends when the counter of closed windows is 0: a window that was flagged and not counted stays behind.",
    source="K:vas.c",
)
def test_a_window_flagged_and_not_counted_is_not_reopened_while_the_counter_is_zero() -> None:
    partition = booted(3)
    partition.open_windows(3)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    assert not partition.retarget(1).accepted
    assert (partition.with_status("no_cred_close"), partition.pool().nr_close) == ([3], 0)
    partition.hypervisor.made.clear()
    assert partition.retarget(3).accepted
    assert partition.hypervisor.made == [HQueryVasCapabilities(query_type=2)]
    partition.retarget(1)
    assert partition.with_status("no_cred_close") == [3, 2, 1]
    assert partition.order_of(partition.retarget(3).reopened) == [3, 2]
    assert (partition.with_status("no_cred_close"), partition.pool().nr_close) == ([1], 0)
