"""Core removal and addition: the lists of domain.md 5.5, number by number."""

from __future__ import annotations

import errno

import pytest

from lpar.window import Window
from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import Done, TxWinOpen, WindowOpened
from protocol.hcall_messages import (
    ConfigurationKind,
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
)
from tests.fidelity.rows import fidelity
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, booted


def down(first: int, last: int) -> list[int]:
    """Numbers from `first` down to `last`."""
    return list(range(first, last - 1, -1))


def parts_of(window: Window) -> tuple[object, ...]:
    """What H_ALLOCATE_VAS_WINDOW gives a window."""
    return (window.window_id, window.paste_address, window.completion_interrupt, window.fault_interrupt)


@fidelity(
    "5 reconfigure",
    "A lower total closes the windows opened last, newest first; a higher one reopens the oldest of the "
    "closed, newest of those first.",
    source="K:vas.c",
)
@fidelity(
    "5 reconfigure",
    "A closed window stays counted as used: used exceeds total while windows wait for credit.",
    source="K:vas.c",
)
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


@fidelity(
    "5 reconfigure",
    "Credits that users free while windows are closed stay idle: an open is EBUSY, and one credit more reopens "
    "one window only.",
    source="K:vas.c",
)
def test_example_c_credits_freed_by_users_stay_stranded() -> None:
    partition = booted(10)
    windows = partition.open_windows(10)
    assert list(partition.retarget(7).closed) == [10, 9, 8]
    for window in windows[:4]:
        partition.close(window)
    assert partition.credits() == (7, 6)
    client = partition.process()
    refused = partition.fails(client, TxWinOpen(descriptor=partition.device(client)), KernelReason.CLOSED_WINDOWS)
    assert refused.errno == errno.EBUSY
    assert partition.credits() == (7, 6)
    assert partition.order_of(partition.retarget(8).reopened) == [8]
    assert partition.with_status("no_cred_close") == [10, 9]
    assert partition.with_status("active") == [8, 7, 6, 5]
    assert partition.pool().total - partition.pool().active == 4


@fidelity(
    "5 reconfigure",
    "A window closed for lost credit and by a migration loses only the migration's flag at resume, and waits "
    "for credits.",
    source="K:vas.c",
)
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


@fidelity(
    "5 reconfigure",
    "Credits added between suspend and resume may reopen nothing later: every window is closed then, and the "
    "skip jumps over those that lack credit.",
    source="K:vas.c",
)
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


@fidelity(
    "5 reconfigure",
    "Closing sets the flag and unmaps the paste page before H_DEALLOCATE; only its success counts the window "
    "as closed.",
    source="K:vas.c",
)
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


@fidelity(
    "5 reconfigure",
    "A reopened window is allocated wherever the hypervisor likes: the affinity asked for at its open is lost.",
    source="K:vas.c",
)
@fidelity("5 reconfigure", "A reopened window is bound to its opener's saved pid.", source="K:vas.c")
def test_a_reopened_window_has_a_new_id_the_openers_pid_and_no_placement() -> None:
    partition = booted(2)
    client = partition.process(pid=4711)
    partition.open_window(client)
    near = TxWinOpen(descriptor=partition.device(client), vas_id=-1, processor_id=3)
    partition.ask(client, near, WindowOpened)
    (placed,) = [call for call in partition.hypervisor.made[2:] if isinstance(call, HAllocateVasWindow)]
    assert placed.domain == (7, 3, 0, 0, 0, 0)
    partition.retarget(1)
    partition.hypervisor.made.clear()
    assert partition.retarget(2).reopened == (3,)
    query, allocate, modify = partition.hypervisor.made
    assert query == HQueryVasCapabilities(query_type=2)
    assert isinstance(allocate, HAllocateVasWindow)
    assert allocate.domain == (0xFFFFFFFFFFFFFFFF, 0, 0, 0, 0, 0)
    assert isinstance(modify, HModifyVasWindow)
    assert (modify.process_id, modify.thread_id, modify.flags) == (4711, 0, 0x5C00000000000000)


@fidelity("5 reconfigure", "Default and QoS windows are reconfigured apart, each by its own total.", source="K:vas.c")
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


@fidelity("5 reconfigure", "A lower total that covers the active windows closes nothing.", source="K:vas.c")
@pytest.mark.parametrize("total", [10, 12])
def test_a_total_that_covers_the_active_windows_closes_nothing(total: int) -> None:
    partition = booted(20)
    partition.open_windows(10)
    report = partition.retarget(total)
    assert (report.accepted, report.closed, report.reopened) == (True, (), ())
    assert partition.credits() == (total, 10)


@fidelity(
    "5 reconfigure",
    "Id, paste address and interrupts of a reopened window are all new, and the order of the list stays.",
    source="K:vas.c",
)
def test_everything_of_a_reopened_window_is_new_but_its_place() -> None:
    partition = booted(3)
    partition.open_windows(3)
    before = [parts_of(window) for window in partition.pool().newest_first()]
    partition.retarget(0)
    assert len(partition.retarget(3).reopened) == 3
    after = [parts_of(window) for window in partition.pool().newest_first()]
    for old, new in zip(before, after, strict=True):
        assert all(one != other for one, other in zip(old, new, strict=True))
    assert [window.order for window in partition.pool().newest_first()] == [3, 2, 1]
    lines = partition.core.kernel.driver.fault_lines
    assert {line.window_id for line in lines} == {window.window_id for window in partition.pool().newest_first()}
