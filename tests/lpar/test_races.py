"""Races, forced by holding answers of the hypervisor: removals, closes, faults and migrations in between (5.8)."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import FaultOutcome, HcallCode, KernelReason
from protocol.device_messages import (
    Done,
    Mmap,
    OsFailure,
    TxWinOpen,
    WindowOpened,
)
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow
from protocol.message import Request
from tests.fidelity.rows import fidelity
from tests.lpar.client_process import Client
from tests.lpar.faults import fault
from tests.lpar.hypervisor import Silence, paste_address
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, Partition, booted
from tests.lpar.races import made, page_fault, start_close

HOLD = Silence.HOLD


def start_open(partition: Partition) -> tuple[Client, int]:
    """The ioctl of a new process, not waited for."""
    client = partition.process()
    return client, partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))


# A core removal between the ioctl and mmap, and a mapping that is gone before the window is.


@fidelity(
    "5 races",
    "A core removed between the ioctl and mmap finds no mapping to take away, and mmap is EACCES until the window "
    "is reopened.",
    source="K:vas.c",
)
def test_a_core_removed_between_open_and_mmap_unmaps_nothing_and_mmap_is_eacces_until_the_core_is_back() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    assert partition.retarget(1).closed == (2,)
    assert partition.window(2).mapping is None
    request = Mmap(descriptor=windows[1].descriptor)
    assert partition.fails(windows[1].client, request, KernelReason.INACTIVE).errno == errno.EACCES
    partition.retarget(2)
    assert partition.mmap(windows[1]).address == paste_address(3)


@fidelity(
    "5 races",
    "A mapping that was unmapped before its window is closed is not touched by the close.",
    source="A:api",
)
def test_a_mapping_that_went_before_its_window_is_closed_is_forgotten() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    first = partition.mmap(window)
    partition.unmap(window.client, first.mapping)
    assert partition.window(1).mapping is None
    assert partition.retarget(0).closed == (1,)
    partition.retarget(1)
    assert page_fault(partition, window.client, first.mapping).outcome is FaultOutcome.SIGBUS
    assert partition.mmap(window).address == paste_address(2)


# A core removal while an open is under way.


@fidelity(
    "5 races",
    "A removal between the allocation of a window and its listing does not see it: if it closes nothing, active "
    "windows exceed the total by the opens under way.",
    source="K:vas.c",
)
def test_a_removal_waits_for_the_allocation_of_an_open_and_does_not_see_its_window() -> None:
    partition = booted(2)
    partition.open_windows(1)
    partition.hypervisor.returns(HAllocateVasWindow, HOLD)
    partition.hypervisor.returns(HModifyVasWindow, HOLD)
    client, number = start_open(partition)
    partition.announce_total(1)
    assert partition.credits() == (2, 2), "the open holds the mutex"
    partition.hypervisor.release_oldest()
    partition.settle()
    assert partition.hypervisor.reports[-1].closed == ()
    assert partition.credits() == (1, 2)
    partition.hypervisor.release_oldest()
    partition.settle()
    partition.answer(client, number, WindowOpened)
    assert (partition.pool().active, partition.pool().total) == (2, 1)


@fidelity(
    "5 races",
    "If that removal closes another window the open under way gives way to it: it is undone and EBUSY.",
    source="K:vas.c",
)
def test_an_open_that_waits_to_be_listed_behind_a_removal_gives_way_to_the_closed_window() -> None:
    partition = booted(2)
    partition.open_windows(1)
    partition.hypervisor.returns(HModifyVasWindow, HOLD)
    client, number = start_open(partition)
    partition.hypervisor.returns(HDeallocateVasWindow, HOLD)
    partition.announce_total(0)
    partition.hypervisor.release_oldest()
    partition.settle()
    assert number not in client.answers, "the window is bound, and its open waits for the mutex"
    partition.hypervisor.release()
    partition.settle()
    assert partition.hypervisor.reports[-1].closed == (1,)
    failure = partition.answer(client, number, OsFailure)
    assert (failure.errno, failure.reason) == (errno.EBUSY, KernelReason.CLOSED_WINDOWS)
    assert partition.hypervisor.made[-1] == HDeallocateVasWindow(window_id=2)
    assert (partition.credits(), partition.pool().progress) == ((0, 1), 0)


# A migration with an open half done.


@fidelity(
    "3 ioctl",
    "The migration is looked at again after H_MODIFY: an open that it has overtaken is undone and EBUSY.",
    source="K:vas.c",
)
@fidelity(
    "5 races",
    "A migration waits for opens that are half done, which see it at their end and undo themselves.",
    source="K:vas.c",
)
@pytest.mark.parametrize("listed", [[], [1]])
@pytest.mark.parametrize("held", [HAllocateVasWindow, HModifyVasWindow])
def test_a_migration_begun_while_an_open_is_half_done_ends_that_open(held: type[Request], listed: list[int]) -> None:
    """Without a listed window it is the flag alone that stops the open; no window is closed then."""
    partition = booted(3)
    partition.open_windows(len(listed))
    partition.hypervisor.returns(held, HOLD)
    client, number = start_open(partition)
    partition.core.suspend(partition.now_us)
    partition.core.resume(partition.now_us)
    partition.advance(30)
    assert partition.core.kernel.driver.migrating, "the suspend waits for the open, and the resume for the suspend"
    partition.hypervisor.release()
    partition.advance(30)
    failure = partition.answer(client, number, OsFailure)
    assert (failure.errno, failure.reason) == (errno.EBUSY, KernelReason.MIGRATION)
    assert not partition.core.kernel.driver.migrating
    assert (partition.with_status("active"), len(partition.hypervisor.windows)) == (listed, len(listed))
    assert (partition.credits(), partition.pool().progress) == ((3, len(listed)), 0)


# One mutex around the hcalls and the interrupts.


@fidelity(
    "5 races",
    "One mutex is held around allocation and deallocation with the interrupt, because the hypervisor may hand out "
    "a freed interrupt number at once.",
    source="K:vas.c",
)
def test_an_interrupt_number_handed_out_again_belongs_to_the_new_window() -> None:
    partition = booted(2)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HDeallocateVasWindow, HOLD)
    closing = start_close(partition, window)
    client, number = start_open(partition)
    assert len(made(partition, HAllocateVasWindow)) == 1, "the second allocation waits for the deallocation to end"
    partition.hypervisor.next_window = 1
    partition.hypervisor.release()
    partition.settle()
    partition.answer(window.client, closing, Done)
    assert partition.answer(client, number, WindowOpened).window_id == 1
    fault(partition, 1, 1)
    assert (len(client.blocks), window.client.blocks) == (1, [])


@fidelity("5 races", "That mutex is one for both credit types.", source="K:vas.c")
def test_changes_of_the_two_types_take_turns() -> None:
    partition = booted(2, qos=2)
    partition.open_windows(2)
    partition.open_windows(2, qos=True)
    partition.hypervisor.returns(HDeallocateVasWindow, HOLD)
    partition.announce_total(0)
    writing = partition.write(UPDATE_TOTAL_CREDITS, "0")
    assert len(made(partition, HDeallocateVasWindow)) == 1
    partition.hypervisor.release()
    partition.settle()
    partition.answer(partition.reader, writing, Done)
    calls = [call.window_id for call in partition.hypervisor.made if isinstance(call, HDeallocateVasWindow)]
    assert calls == [2, 1, 4, 3]


@fidelity(
    "5 races",
    "A migration waits for opens that are half done, which see it at their end and undo themselves.",
    source="K:vas.c",
)
def test_a_failure_of_the_half_done_open_is_told_although_a_migration_has_begun() -> None:
    partition = booted(2)
    partition.hypervisor.returns(HModifyVasWindow, HOLD)
    client, number = start_open(partition)
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.release(HcallCode.H_STATE)
    partition.advance(20)
    failure = partition.answer(client, number, OsFailure)
    assert (failure.errno, failure.hcall) == (errno.EIO, HcallCode.H_STATE)
    assert partition.core.kernel.is_idle
    assert partition.credits() == (2, 0)
