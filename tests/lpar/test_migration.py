"""Suspend and resume as the kernel does them (domain.md 5.7)."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, FaultOutcome, HcallCode, Instruction, KernelReason
from protocol.device_messages import Fault, FaultHandled, OsFailure, TxWinOpen
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
)
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted


def suspend(partition: Partition) -> None:
    partition.core.suspend(partition.now_us)
    partition.settle()


def resume(partition: Partition) -> None:
    partition.core.resume(partition.now_us)
    partition.settle()


@fidelity(
    "5 migration",
    "VAS_SUSPEND closes every active window of the QoS type and then of the default type, newest first, and "
    "marks it as closed for migration.",
    source="K:vas.c",
)
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


@fidelity(
    "5 migration",
    "Errors of the hypervisor are ignored while VAS is suspended: the window counts as closed all the same.",
    source="K:vas.c",
)
def test_suspend_ignores_errors_of_the_hypervisor() -> None:
    partition = booted(3)
    partition.open_windows(3)
    partition.hypervisor.returns(HQueryVasCapabilities, HcallCode.H_HARDWARE, HcallCode.H_HARDWARE)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    suspend(partition)
    assert partition.with_status("migrate_close") == [3, 2, 1]
    assert partition.pool().nr_close == 3


@fidelity(
    "5 migration",
    "VAS_RESUME takes the target of the hypervisor as the new total and reopens every window closed for "
    "migration, newest first, whatever that total is.",
    source="K:vas.c",
)
def test_resume_takes_the_new_total_and_reopens_all_whatever_it_is() -> None:
    partition = booted(3)
    partition.open_windows(3)
    suspend(partition)
    partition.hypervisor.targets[CreditType.DEFAULT] = 1
    resume(partition)
    assert partition.credits() == (1, 3)
    assert partition.with_status("active") == [3, 2, 1]


@fidelity(
    "5 migration",
    "The first error of the hypervisor ends VAS_RESUME; the windows left closed come back with the next "
    "migration only, not with DLPAR, and keep new opens at EBUSY.",
    source="K:vas.c",
)
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


@fidelity(
    "5 migration",
    "A failed capability query ends VAS_RESUME, and the other type is not resumed.",
    source="K:vas.c",
)
def test_a_failed_query_ends_a_resume_before_the_other_type() -> None:
    partition = booted(1, qos=1)
    partition.open_windows(1)
    partition.open_windows(1, qos=True)
    suspend(partition)
    partition.hypervisor.returns(HQueryVasCapabilities, HcallCode.H_HARDWARE)
    resume(partition)
    assert partition.with_status("migrate_close") == [2, 1]
    assert not partition.core.kernel.driver.migrating


@fidelity(
    "5 migration",
    "VAS_SUSPEND waits in sleeps of 10 ms, without the mutex, until no open is under way; such an open undoes "
    "itself with EBUSY.",
    source="K:vas.c",
)
@pytest.mark.parametrize(("open_ms", "suspend_ms"), [(3, 10), (9, 10), (12, 20), (101, 110)])
def test_suspend_waits_for_opens_under_way_which_undo_themselves(open_ms: int, suspend_ms: int) -> None:
    """The open is over after `open_ms`, for which the mutex must be free; the suspend at its next look."""
    partition = booted(3)
    partition.open_windows(1)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    suspend(partition)
    partition.advance(open_ms)
    partition.hypervisor.release()
    partition.settle()
    assert partition.answer(client, number, OsFailure).reason is KernelReason.MIGRATION
    assert not partition.hypervisor.windows
    partition.advance(suspend_ms - open_ms - 0.001)
    assert not partition.core.kernel.is_idle
    partition.advance(0.001)
    assert partition.core.kernel.is_idle
    assert partition.credits() == (3, 1)


@fidelity(
    "5 migration",
    "VAS_SUSPEND goes on to the next type when no open of this one is under way.",
    source="K:vas.c",
)
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


@fidelity(
    "5 migration",
    "An open looks for a migration when it has the mutex, before it allocates, and is EBUSY then.",
    source="K:vas.c",
)
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


@fidelity(
    "5 migration",
    "Credits lost while VAS is suspended close nothing, and VAS_RESUME reopens every window it closed.",
    source="K:vas.c",
)
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


@fidelity("5 migration", "Where copy/paste is not offered a migration does nothing to VAS.", source="K:vas.c")
def test_without_the_accelerator_migration_does_nothing() -> None:
    partition = booted(2)
    partition.core.kernel.driver.copy_paste = False
    suspend(partition)
    assert not partition.hypervisor.made
    assert not partition.core.kernel.driver.migrating


# What is left of domain.md 5.7.


@fidelity(
    "5 migration",
    "The flag that refuses opens is set without the mutex, before anything is closed.",
    source="K:vas.c",
)
def test_suspend_refuses_opens_while_it_still_waits_for_the_mutex() -> None:
    partition = booted(3)
    windows = partition.open_windows(2)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    partition.close(windows[0])
    suspend(partition)
    assert partition.with_status("active") == [2, 1]
    assert partition.core.kernel.driver.migrating
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("migrate_close") == [2]


@fidelity(
    "5 migration",
    "A target that differs from the total is only logged while VAS is suspended; the total stays.",
    source="K:vas.c",
)
def test_suspend_logs_another_target_and_keeps_its_total() -> None:
    partition = booted(3)
    partition.open_windows(2)
    partition.hypervisor.targets[CreditType.DEFAULT] = 1
    suspend(partition)
    assert [(fact["total"], fact["target"]) for fact in partition.logged("credits_differ")] == [(3, 1)]
    assert partition.credits() == (3, 2)
    assert partition.with_status("migrate_close") == [2, 1]


@fidelity(
    "5 migration",
    "A window that has lost its credit already gains the mark of the migration, and is reopened by the last of "
    "the two events that can.",
    source="K:vas.c",
)
def test_a_window_closed_for_both_reasons_comes_back_with_the_last_event() -> None:
    partition = booted(2)
    partition.open_windows(2)
    partition.retarget(1)
    suspend(partition)
    assert partition.with_status("no_cred_close|migrate_close") == [2]
    resume(partition)
    assert partition.with_status("no_cred_close") == [2]
    suspend(partition)
    assert partition.retarget(3).reopened == ()
    assert partition.with_status("migrate_close") == [2, 1]
    resume(partition)
    assert partition.with_status("active") == [2, 1]


@fidelity(
    "5 migration",
    "A paste during a migration fails as if NX were busy, and works at the same address afterwards.",
    source="K:vas.c",
)
def test_a_paste_during_a_migration_fails_and_one_after_it_finds_the_new_address() -> None:
    partition = booted(1)
    window = partition.open_windows(1)[0]
    mapped = partition.mmap(window)
    paste = Fault(mapping=mapped.mapping, instruction=Instruction.PASTE)
    suspend(partition)
    assert partition.ask(window.client, paste, FaultHandled).outcome is FaultOutcome.PASTE_FAILED
    resume(partition)
    handled = partition.ask(window.client, paste, FaultHandled)
    assert handled.outcome is FaultOutcome.REMAPPED
    assert handled.address is not None
    assert handled.address != mapped.address
