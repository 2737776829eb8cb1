"""Core removal and addition: the lists of domain.md 5.5, number by number."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import Done, OsFailure, TxWinOpen
from protocol.hcall_messages import (
    ConfigurationKind,
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
)
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, booted


def down(first: int, last: int) -> list[int]:
    """Numbers from `first` down to `last`."""
    return list(range(first, last - 1, -1))


def test_example_a_core_removal_closes_newest_first_and_core_addition_reopens_the_oldest_closed() -> None:
    partition = booted(40)
    partition.open_windows(40)
    assert list(partition.retarget(20).closed) == down(40, 21)
    assert partition.credits() == (20, 40)
    assert partition.with_status("active") == down(20, 1)
    reopened = partition.retarget(30).reopened
    assert partition.order_of(reopened) == down(30, 21)
    assert partition.with_status("no_cred_close") == down(40, 31)
    assert partition.order_of(partition.retarget(40).reopened) == down(40, 31)
    assert partition.credits() == (40, 40)
    assert partition.with_status("active") == down(40, 1)


def test_example_c_credits_freed_by_users_stay_stranded() -> None:
    partition = booted(10)
    windows = partition.open_windows(10)
    assert list(partition.retarget(7).closed) == [10, 9, 8]
    for window in windows[:4]:
        partition.close(window)
    assert partition.credits() == (7, 6)
    client = partition.process()
    partition.fails(client, TxWinOpen(descriptor=partition.device(client)), KernelReason.CLOSED_WINDOWS)
    assert partition.credits() == (7, 6)
    assert partition.order_of(partition.retarget(8).reopened) == [8]
    assert partition.with_status("no_cred_close") == [10, 9]
    assert partition.pool().active == 4


def test_example_d_windows_closed_for_both_reasons_wait_for_the_later_event() -> None:
    partition = booted(10)
    partition.open_windows(10)
    partition.retarget(8)
    partition.core.suspend(partition.now_us)
    partition.settle()
    assert partition.with_status("no_cred_close|migrate_close") == [10, 9]
    assert partition.with_status("migrate_close") == down(8, 1)
    assert not partition.hypervisor.windows
    made = len(partition.hypervisor.made)
    partition.core.resume(partition.now_us)
    partition.settle()
    modified = [call.window_id for call in partition.hypervisor.made[made:] if isinstance(call, HModifyVasWindow)]
    assert partition.order_of(tuple(modified)) == down(8, 1)
    assert partition.with_status("no_cred_close") == [10, 9]
    assert partition.with_status("active") == down(8, 1)


def test_example_e_credits_added_during_a_migration_skip_list_entries_not_closed_windows() -> None:
    partition = booted(10)
    partition.open_windows(10)
    partition.retarget(8)
    partition.core.suspend(partition.now_us)
    partition.settle()
    report = partition.retarget(10)
    assert report.accepted
    assert report.reopened == ()
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.credits() == (10, 10)
    assert partition.with_status("no_cred_close") == [10, 9]
    assert partition.with_status("active") == down(8, 1)


def test_a_window_is_flagged_and_unmapped_before_it_is_deallocated() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.mmap(window)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_LONG_BUSY_ORDER_1_MSEC
    partition.hypervisor.targets[CreditType.DEFAULT] = 0
    partition.hypervisor.announce(ConfigurationKind.CPU, 0)
    partition.settle()
    kept = partition.window(1)
    assert kept.mapping is not None
    assert not kept.mapping.backed
    assert not kept.is_active
    assert partition.pool().nr_close == 0
    partition.hypervisor.always.clear()
    partition.advance(5)
    assert partition.pool().nr_close == 1


def test_a_core_removed_between_open_and_mmap_finds_no_mapping_to_unmap() -> None:
    partition = booted(1)
    partition.open_windows(1)
    assert partition.retarget(0).closed == (1,)
    assert partition.window(1).mapping is None


def test_a_reopened_window_has_a_new_id_the_openers_pid_and_no_placement() -> None:
    partition = booted(2)
    client = partition.process(pid=4711)
    partition.open_window(client)
    partition.open_window(client)
    partition.retarget(1)
    partition.hypervisor.made.clear()
    assert partition.retarget(2).reopened == (3,)
    query, allocate, modify = partition.hypervisor.made
    assert query == HQueryVasCapabilities(query_type=2)
    assert isinstance(allocate, HAllocateVasWindow)
    assert allocate.domain == (0xFFFFFFFFFFFFFFFF, 0, 0, 0, 0, 0)
    assert isinstance(modify, HModifyVasWindow)
    assert (modify.process_id, modify.thread_id, modify.flags) == (4711, 0, 0x5C00000000000000)


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


def test_the_skip_counts_list_entries_whether_they_are_closed_or_not() -> None:
    partition = booted(10)
    partition.open_windows(10)
    partition.retarget(5)
    partition.hypervisor.fails_at(HAllocateVasWindow, 1, HcallCode.H_CONSTRAINED)
    assert partition.order_of(partition.retarget(8).reopened) == [8]
    assert partition.with_status("no_cred_close") == [10, 9, 7, 6]
    assert partition.order_of(partition.retarget(9).reopened) == [7, 6]
    assert partition.with_status("no_cred_close") == [10, 9]


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


def test_the_two_types_are_reconfigured_apart() -> None:
    partition = booted(3, qos=2)
    partition.open_windows(2, qos=True)
    partition.open_windows(3)
    assert partition.retarget(1).closed == (5, 4)
    assert partition.credits(CreditType.QOS) == (2, 2)
    number = partition.write(UPDATE_TOTAL_CREDITS, "1")
    partition.answer(partition.reader, number, Done)
    assert partition.with_status("no_cred_close") == [5, 4, 2]
    assert partition.credits(CreditType.QOS) == (1, 2)
    assert partition.credits() == (1, 3)


def test_a_failing_reconfiguration_by_write_is_einval() -> None:
    partition = booted(0, qos=2)
    partition.open_windows(2, qos=True)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    failure = partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "0"), OsFailure)
    assert (failure.errno, failure.reason, failure.hcall) == (22, KernelReason.RECONFIGURE, HcallCode.H_STATE)


@pytest.mark.parametrize("total", [10, 12])
def test_a_total_that_covers_the_active_windows_closes_nothing(total: int) -> None:
    partition = booted(20)
    partition.open_windows(10)
    report = partition.retarget(total)
    assert (report.accepted, report.closed, report.reopened) == (True, (), ())
    assert partition.credits() == (total, 10)
