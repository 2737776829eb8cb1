"""Translation faults while windows are opened, closed, suspended and reopened, and processes end (domain.md 5.8)."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import CloseDescriptor, Done, OsFailure, TxWinOpen, WindowOpened
from protocol.hcall_messages import (
    ConfigurationKind,
    HDeallocateVasWindow,
    HGetNxFault,
    HModifyVasWindow,
)
from protocol.session import Ending
from tests.fidelity.rows import fidelity
from tests.lpar.client_process import Client
from tests.lpar.faults import ends, fault, fetches
from tests.lpar.hypervisor import INTERRUPT_BASE, Silence
from tests.lpar.partition import Partition, booted


def closing_behind_a_fault(partition: Partition, *, notify: bool = False) -> tuple[Client, int]:
    """The only window of a process has a fault that its kernel does not know of, and its descriptor is closed."""
    (window,) = partition.open_windows(1)
    partition.hypervisor.raise_fault(window.window_id, 1, notify=notify)
    number = partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
    partition.advance(20)
    return window.client, number


@fidelity(
    "5 races",
    "A fault of a window that is not listed yet finds its handler: the interrupt is set up with the allocation.",
    source="K:vas.c",
)
def test_an_interrupt_before_the_open_is_listed_finds_the_window() -> None:
    partition = booted(1)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    assert partition.listing() == []
    fault(partition, 1, 1)
    assert partition.hypervisor.fetched == [(1, 1)]
    assert len(client.blocks) == 1
    partition.hypervisor.release()
    partition.settle()
    partition.answer(client, number, WindowOpened)
    assert partition.with_status("active") == [1]


@fidelity(
    "5 open",
    "An open that is undone frees its interrupt before it deallocates the window.",
    source="K:vas.c",
    differs=(
        "The interrupt is freed after it: a fault of the window is still fetched, without which the "
        "deallocation would stay busy."
    ),
)
def test_an_interrupt_while_an_open_is_undone_lets_the_deallocation_end() -> None:
    partition = booted(2)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.hypervisor.raise_fault(1, 1, notify=False)
    partition.hypervisor.release(HcallCode.H_P2)
    partition.advance(20)
    assert number not in client.answers
    assert partition.hypervisor.windows
    partition.hypervisor.interrupt(1, 1)
    partition.advance(5)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.HCALL_FAILED
    assert not partition.hypervisor.windows
    assert partition.pool().progress == 0
    assert len(partition.core.kernel.driver.fault_lines) == 0


@fidelity(
    "5 close",
    "An active window is deallocated, then its interrupt is freed, and it leaves the list and the counts.",
    source="K:vas.c",
)
def test_a_close_stays_busy_until_the_fault_of_its_window_is_fetched() -> None:
    partition = booted(1)
    client, number = closing_behind_a_fault(partition)
    busy = sum(isinstance(call, HDeallocateVasWindow) for call in partition.hypervisor.made)
    assert number not in client.answers
    assert busy > 10, "the busy loop goes on"
    assert partition.interrupt_lines() == [1]
    partition.hypervisor.interrupt(1, 1)
    partition.settle()
    assert len(client.blocks) == 1
    assert number not in client.answers
    partition.advance(2)
    partition.answer(client, number, Done)
    assert partition.interrupt_lines() == []
    assert partition.credits() == (1, 0)
    assert not partition.hypervisor.windows


def test_other_opens_wait_for_a_close_behind_a_fault_and_go_on_after_it() -> None:
    partition = booted(2)
    client, number = closing_behind_a_fault(partition)
    opener = partition.process()
    opening = partition.call(opener, TxWinOpen(descriptor=partition.device(opener), vas_id=0))
    partition.advance(50)
    assert opening not in opener.answers
    partition.hypervisor.interrupt(1, 1)
    partition.advance(5)
    partition.answer(client, number, Done)
    partition.answer(opener, opening, WindowOpened)


def test_the_status_block_is_written_even_if_the_deallocation_is_answered_before_the_fetch() -> None:
    """The answer to H_GET_NX_FAULT is lost and repeated; the window is deallocated meanwhile."""
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
    fault(partition, 1, 1)
    session, number, body = partition.hypervisor.held.pop()
    reply = partition.hypervisor._reply(body, None)
    partition.ask(window.client, CloseDescriptor(descriptor=window.descriptor), Done)
    assert not partition.core.kernel.is_idle
    partition.hypervisor.listener.answer(session, number, reply)
    partition.settle()
    assert len(window.client.blocks) == 1
    assert partition.core.kernel.is_idle


@fidelity("5 races", "A window whose request has faulted is closed only after the fault is fetched.", source="K:vas.c")
def test_a_window_that_lost_its_credit_is_closed_only_after_its_fault_is_fetched() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    partition.hypervisor.raise_fault(2, 1, notify=False)
    partition.hypervisor.targets[CreditType.DEFAULT] = 1
    partition.hypervisor.announce(ConfigurationKind.CPU, 1)
    partition.advance(20)
    assert not partition.hypervisor.reports
    partition.hypervisor.interrupt(2, 1)
    partition.advance(5)
    assert partition.hypervisor.reports[-1].closed == (2,)
    assert len(windows[1].client.blocks) == 1


@fidelity("5 races", "A window whose request has faulted is closed only after the fault is fetched.", source="K:vas.c")
def test_a_suspend_waits_for_the_fault_of_a_window_and_the_reopened_window_counts_anew() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.raise_fault(1, 4, notify=False)
    partition.core.suspend(partition.now_us)
    partition.advance(20)
    assert partition.hypervisor.windows
    partition.hypervisor.interrupt(1, 4)
    partition.advance(5)
    assert not partition.hypervisor.windows
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.with_status("active") == [1]
    assert partition.fault_listing() == []
    partition.hypervisor.interrupt(1, 5)
    fault(partition, 2, 4)
    assert partition.hypervisor.fetched == [(1, 4), (2, 4)]
    assert partition.fault_listing() == [[2, INTERRUPT_BASE + 2, 500, 0, 1]]
    assert len(window.client.blocks) == 2


@fidelity(
    "5 races",
    "A fault of a window that is not listed yet finds its handler: the interrupt is set up with the allocation.",
    source="K:vas.c",
)
def test_an_interrupt_in_the_middle_of_a_reopening_walk_finds_the_window() -> None:
    partition = booted(2)
    (window, _other) = partition.open_windows(2)
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    partition.core.resume(partition.now_us)
    partition.settle()
    fault(partition, 3, 1)
    assert len(window.client.blocks) == 1
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("active") == [2, 1]


@fidelity(
    "3 faults",
    "Nothing is written and nobody is signalled while the task is exiting or after it has exited.",
    source="T:api",
)
def test_a_fault_of_a_process_that_has_exited_is_fetched_and_told_to_nobody() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.raise_fault(1, 1, notify=False)
    window.client.dialer.say_bye()
    partition.advance(20)
    assert partition.hypervisor.windows
    successor = partition.process(pid=500)
    partition.hypervisor.interrupt(1, 1)
    partition.advance(5)
    assert not partition.hypervisor.windows
    assert not window.client.blocks
    assert not successor.blocks
    assert ends(partition) == {"nobody": 1}


def test_a_restarted_process_of_the_same_name_is_not_told_of_its_predecessors_fault() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    client = window.client
    partition.hypervisor.raise_fault(1, 1, notify=False)
    client.dialer.say_bye()
    partition.settle()
    client.dialer.start_over(b"another-incarnat", partition.now_us)
    partition.advance(10)
    partition.hypervisor.interrupt(1, 1)
    partition.advance(5)
    assert not client.blocks
    assert ends(partition) == {"nobody": 1}


def test_a_partition_restart_forgets_faults_under_way_and_serves_those_of_new_windows() -> None:
    partition = booted(2)
    partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
    fault(partition, 1, 1)
    session = next(iter(partition.hypervisor.listener.sessions.values()))
    partition.hypervisor.listener.close(session, Ending.LEASE)
    partition.hypervisor.windows.clear()
    partition.hypervisor.faults.clear()
    partition.hypervisor.held.clear()
    partition.advance(2_000)
    assert partition.core.statistics().pending_faults == 0
    assert partition.core.kernel.is_idle
    partition.hypervisor.interrupt(1, 1)
    partition.settle()
    assert len(fetches(partition)) == 1, "the old window is unknown to the new kernel"
    window = partition.open_window(partition.process())
    fault(partition, window.window_id, 1)
    assert len(window.client.blocks) == 1


def test_shutdown_fetches_the_faults_of_the_windows_that_it_closes() -> None:
    partition = booted(1)
    partition.open_windows(1)
    partition.hypervisor.raise_fault(1, 1, notify=False)
    partition.core.stop(partition.now_us)
    partition.advance(20)
    assert partition.core.effects.exit is None
    partition.hypervisor.interrupt(1, 1)
    partition.advance(5)
    assert not partition.hypervisor.windows
    assert partition.core.effects.exit is not None
