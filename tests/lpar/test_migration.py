"""Suspend and resume as the kernel does them (domain.md 5.7)."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import OsFailure, TxWinOpen
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
)
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted


def suspend(partition: Partition) -> None:
    partition.core.suspend(partition.now_us)
    partition.settle()


def resume(partition: Partition) -> None:
    partition.core.resume(partition.now_us)
    partition.settle()


def test_suspend_closes_every_window_qos_first_newest_first() -> None:
    partition = booted(3, qos=2)
    partition.open_windows(3)
    partition.open_windows(2, qos=True)
    partition.hypervisor.made.clear()
    suspend(partition)
    assert partition.hypervisor.made == [
        HQueryVasCapabilities(query_type=1),
        HDeallocateVasWindow(window_id=5),
        HDeallocateVasWindow(window_id=4),
        HQueryVasCapabilities(query_type=2),
        HDeallocateVasWindow(window_id=3),
        HDeallocateVasWindow(window_id=2),
        HDeallocateVasWindow(window_id=1),
    ]
    assert partition.with_status("migrate_close") == [5, 4, 3, 2, 1]
    assert partition.credits() == (3, 3)


def test_suspend_ignores_errors_of_the_hypervisor() -> None:
    partition = booted(3)
    partition.open_windows(3)
    partition.hypervisor.returns(HQueryVasCapabilities, HcallCode.H_HARDWARE, HcallCode.H_HARDWARE)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    suspend(partition)
    assert partition.with_status("migrate_close") == [3, 2, 1]
    assert partition.pool().nr_close == 3


def test_resume_takes_the_new_total_and_reopens_all_whatever_it_is() -> None:
    partition = booted(3)
    partition.open_windows(3)
    suspend(partition)
    partition.hypervisor.targets[CreditType.DEFAULT] = 1
    resume(partition)
    assert partition.credits() == (1, 3)
    assert partition.with_status("active") == [3, 2, 1]


def test_the_first_error_ends_a_resume_and_the_rest_waits_for_the_next_migration() -> None:
    partition = booted(3)
    windows = partition.open_windows(3)
    suspend(partition)
    partition.hypervisor.enforces = True
    partition.hypervisor.targets[CreditType.DEFAULT] = 1
    resume(partition)
    assert partition.with_status("active") == [3]
    assert partition.with_status("migrate_close") == [2, 1]
    partition.retarget(3)
    assert partition.with_status("migrate_close") == [2, 1]
    partition.close(windows[2])
    client = partition.process()
    partition.fails(client, TxWinOpen(descriptor=partition.device(client)), KernelReason.CLOSED_WINDOWS)
    suspend(partition)
    resume(partition)
    assert partition.with_status("active") == [2, 1]


def test_a_failed_query_ends_a_resume_before_the_other_type() -> None:
    partition = booted(1, qos=1)
    partition.open_windows(1)
    partition.open_windows(1, qos=True)
    suspend(partition)
    partition.hypervisor.returns(HQueryVasCapabilities, HcallCode.H_HARDWARE)
    resume(partition)
    assert partition.with_status("migrate_close") == [2, 1]
    assert not partition.core.kernel.driver.migrating


def test_suspend_waits_for_opens_under_way_which_undo_themselves() -> None:
    partition = booted(3)
    partition.open_windows(1)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    suspend(partition)
    partition.advance(100)
    assert not partition.core.kernel.is_idle
    partition.hypervisor.release()
    partition.advance(20)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.MIGRATION
    assert not partition.hypervisor.windows
    assert partition.core.kernel.is_idle
    assert partition.credits() == (3, 1)


def test_suspend_goes_on_to_the_next_type_only_without_opens_in_progress() -> None:
    partition = booted(1, qos=1)
    partition.open_windows(1)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0, flags=1))
    suspend(partition)
    partition.advance(100)
    assert partition.with_status("active") == [1]
    partition.hypervisor.release()
    partition.advance(11)
    assert partition.with_status("migrate_close") == [1]


def test_an_open_waiting_for_the_mutex_sees_the_migration() -> None:
    partition = booted(3)
    partition.open_windows(1)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    suspend(partition)
    client = partition.process()
    partition.hypervisor.made.clear()
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.hypervisor.release()
    partition.settle()
    assert partition.answer(client, number, OsFailure).reason is KernelReason.MIGRATION
    assert not any(isinstance(call, HAllocateVasWindow) for call in partition.hypervisor.made)


def test_credits_lost_during_a_migration_close_nothing_and_resume_reopens_all() -> None:
    partition = booted(4)
    partition.open_windows(4)
    suspend(partition)
    assert partition.retarget(2).closed == ()
    resume(partition)
    assert partition.with_status("active") == [4, 3, 2, 1]
    assert partition.credits() == (2, 4)


def test_resume_after_a_suspend_that_is_still_running_waits_for_it() -> None:
    partition = booted(2)
    partition.open_windows(2)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    partition.core.suspend(partition.now_us)
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.core.kernel.driver.migrating
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("active") == [2, 1]
    assert not partition.core.kernel.driver.migrating


def test_without_the_accelerator_migration_does_nothing() -> None:
    partition = booted(2)
    partition.core.kernel.driver.copy_paste = False
    suspend(partition)
    assert not partition.hypervisor.made
    assert not partition.core.kernel.driver.migrating
