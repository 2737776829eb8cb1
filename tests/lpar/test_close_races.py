"""Races between the user's closes and faults and what the kernel closes and reopens, forced (domain.md 5.8)."""

from __future__ import annotations

import pytest

from protocol.codes import FaultOutcome, Instruction, KernelReason
from protocol.device_messages import (
    Done,
    Fault,
    FaultHandled,
    Mmap,
)
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow
from protocol.message import Request
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence, paste_address
from tests.lpar.partition import booted
from tests.lpar.races import made, page_fault, start_close

HOLD = Silence.HOLD


@fidelity(
    "5 races",
    "A removal and a close by the user exclude each other: the later of the two sees what the earlier has left.",
    source="K:vas.c",
)
def test_a_removal_during_a_close_counts_the_windows_after_it() -> None:
    partition = booted(3)
    windows = partition.open_windows(3)
    partition.hypervisor.returns(HDeallocateVasWindow, HOLD)
    closing = start_close(partition, windows[0])
    partition.announce_total(2)
    assert not partition.hypervisor.reports
    partition.hypervisor.release()
    partition.settle()
    partition.answer(windows[0].client, closing, Done)
    assert partition.hypervisor.reports[-1].closed == ()
    assert partition.with_status("active") == [3, 2]
    assert partition.credits() == (2, 2)


@fidelity(
    "5 races",
    "A removal and a close by the user exclude each other: the later of the two sees what the earlier has left.",
    source="K:vas.c",
)
def test_a_window_closed_by_its_user_while_a_removal_closes_it_is_deallocated_once() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    partition.hypervisor.returns(HDeallocateVasWindow, HOLD)
    partition.announce_total(1)
    closing = start_close(partition, windows[1])
    assert closing not in windows[1].client.answers
    partition.hypervisor.release()
    partition.settle()
    partition.answer(windows[1].client, closing, Done)
    assert partition.hypervisor.reports[-1].closed == (2,)
    assert len(made(partition, HDeallocateVasWindow)) == 1
    assert (partition.credits(), partition.pool().nr_close) == ((1, 1), 0)


@fidelity("5 races", "An addition and a close by the user exclude each other likewise.", source="K:vas.c")
def test_a_window_closed_by_its_user_while_an_addition_reopens_it_is_deallocated_afterwards() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    partition.retarget(1)
    partition.hypervisor.returns(HAllocateVasWindow, HOLD)
    partition.announce_total(2)
    closing = start_close(partition, windows[1])
    assert closing not in windows[1].client.answers
    partition.hypervisor.release()
    partition.settle()
    partition.answer(windows[1].client, closing, Done)
    assert partition.hypervisor.reports[-1].reopened == (3,)
    assert partition.hypervisor.made[-1] == HDeallocateVasWindow(window_id=3)
    assert list(partition.hypervisor.windows) == [1]
    assert (partition.credits(), partition.pool().nr_close) == ((2, 1), 0)


@fidelity(
    "5 races",
    "A removal and a close by the user exclude each other: the later of the two sees what the earlier has left.",
    source="K:vas.c",
)
def test_a_process_that_exits_while_a_removal_closes_its_windows_leaves_nothing_behind() -> None:
    partition = booted(4)
    survivor = partition.open_window(partition.process(pid=7))
    windows = partition.open_windows(3)
    partition.hypervisor.returns(HDeallocateVasWindow, HOLD)
    partition.announce_total(2)
    windows[0].client.dialer.say_bye()
    partition.settle()
    partition.hypervisor.release()
    partition.settle()
    assert partition.hypervisor.reports[-1].closed == (4, 3)
    assert list(partition.hypervisor.windows) == [survivor.window_id]
    assert len(made(partition, HDeallocateVasWindow)) == 3
    assert (partition.credits(), partition.pool().nr_close, partition.pool().nr_open) == ((2, 1), 0, 1)


@fidelity(
    "5 races",
    "A window counts as closed before its deallocation begins: a page fault meanwhile fails the paste.",
    source="K:vas.c",
)
def test_a_page_fault_while_its_window_is_being_closed_finds_it_closed() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    mapping = partition.mmap(window).mapping
    partition.hypervisor.returns(HDeallocateVasWindow, HOLD)
    partition.announce_total(0)
    assert page_fault(partition, window.client, mapping).outcome is FaultOutcome.PASTE_FAILED
    assert page_fault(partition, window.client, mapping, Instruction.LOAD).outcome is FaultOutcome.SIGBUS
    partition.hypervisor.release()
    partition.settle()
    assert partition.hypervisor.reports[-1].closed == (1,)


@fidelity(
    "5 races",
    "A window counts as closed before its deallocation begins: a page fault meanwhile fails the paste.",
    source="K:vas.c",
)
def test_an_address_remapped_just_before_a_removal_is_faulted_on_again() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    mapping = partition.mmap(window).mapping
    assert page_fault(partition, window.client, mapping).address == paste_address(1)
    partition.retarget(0)
    assert page_fault(partition, window.client, mapping).outcome is FaultOutcome.PASTE_FAILED
    partition.retarget(1)
    assert page_fault(partition, window.client, mapping).address == paste_address(2)


@fidelity("5 races", "A window that is being reopened counts as closed until H_MODIFY has returned.", source="K:vas.c")
@pytest.mark.parametrize("held", [HAllocateVasWindow, HModifyVasWindow])
def test_a_page_fault_and_an_mmap_while_the_window_is_being_reopened_find_it_closed(held: type[Request]) -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    mapping = partition.mmap(window).mapping
    partition.retarget(0)
    partition.hypervisor.returns(held, HOLD)
    partition.announce_total(1)
    assert page_fault(partition, window.client, mapping).outcome is FaultOutcome.PASTE_FAILED
    partition.fails(window.client, Mmap(descriptor=window.descriptor), KernelReason.INACTIVE)
    partition.hypervisor.release()
    partition.settle()
    assert page_fault(partition, window.client, mapping).address == paste_address(2)


@fidelity(
    "5 races",
    "Threads that fault on one closed window fail together, and after its reopening come to the same new address.",
    source="A:api",
)
def test_two_threads_of_one_window_fail_together_and_come_back_to_the_same_address() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    request = Fault(mapping=partition.mmap(window).mapping, instruction=Instruction.PASTE)

    def both() -> list[FaultHandled]:
        calls = [window.client.dialer.call(window.client.dialer.session, request, partition.now_us) for _ in "ab"]
        partition.settle()
        return [partition.answer(window.client, number, FaultHandled) for number in calls]

    partition.retarget(0)
    assert [handled.outcome for handled in both()] == [FaultOutcome.PASTE_FAILED] * 2
    partition.retarget(1)
    assert [handled.address for handled in both()] == [paste_address(2)] * 2
