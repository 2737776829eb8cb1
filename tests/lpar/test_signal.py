"""A status block that cannot be written ends its process with SIGSEGV (domain.md 3, vas_update_csb)."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import HcallCode, Instruction, KernelReason, Signal
from protocol.device_messages import (
    CloseDescriptor,
    Done,
    Fault,
    Mmap,
    OpenDevice,
    OsFailure,
    RaiseSignal,
    ReadFile,
    TxWinOpen,
    Unmap,
    WindowOpened,
    WriteFile,
)
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow
from protocol.message import Request
from protocol.refusals import RefusalCode
from protocol.wire import refuse
from tests.fidelity.rows import fidelity
from tests.lpar.client_process import Client
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, WINDOWS_FILE, Partition, booted

PID = 42
NULL = 0


def segmentation_fault(partition: Partition, window_id: int = 1, number: int = 1) -> None:
    partition.hypervisor.raise_fault(window_id, number, csb_address=NULL)
    partition.settle()


def stubborn(partition: Partition) -> Client:
    """A process that gets to its messages from the kernel only when a test says so."""
    client = partition.process(pid=PID)
    client.answers_kernel = False
    return client


@fidelity(
    "3 faults",
    "A status block that cannot be written ends the process that opened the window with SIGSEGV, with the block's "
    "address.",
    source="T:api",
)
def test_the_signal_goes_to_the_thread_that_opened_the_window_with_the_blocks_address() -> None:
    partition = booted(2)
    window = partition.open_window(partition.process(pid=PID))
    segmentation_fault(partition)
    assert window.client.signals == [RaiseSignal(signal=Signal.SIGSEGV, address=NULL, thread_id=PID + 1)]
    assert not window.client.blocks
    (facts,) = partition.logged("process_signalled")
    assert (facts["signal"], facts["window"], facts["pid"], facts["epoch"]) == ("SIGSEGV", 1, PID, 1)
    assert partition.core.statistics().killed == 1


@fidelity("3 faults", "The signal's default action ends the process: its windows are released.", source="T:api")
def test_the_process_loses_its_windows_and_then_its_session_and_no_other_process_is_touched() -> None:
    partition = booted(4)
    client = stubborn(partition)
    windows = [partition.open_window(client) for _ in range(3)]
    partition.mmap(windows[1])
    other = partition.open_window(partition.process(pid=7))
    segmentation_fault(partition, windows[1].window_id)
    assert partition.credits() == (4, 1)
    assert list(partition.hypervisor.windows) == [other.window_id]
    assert client.dialer.session.name in partition.core.listener.sessions, "it has not taken the signal yet"
    processes = partition.core.statistics().processes
    client.answer_kernel()
    partition.settle()
    assert client.dialer.session.name not in partition.core.listener.sessions
    assert partition.core.statistics().processes == processes - 1
    assert not other.client.signals


@pytest.mark.parametrize(
    "request_",
    [
        OpenDevice(), TxWinOpen(descriptor=3), Mmap(descriptor=3), Fault(mapping=1, instruction=Instruction.PASTE),
        Unmap(mapping=1), CloseDescriptor(descriptor=3), ReadFile(path=WINDOWS_FILE),
        WriteFile(path=UPDATE_TOTAL_CREDITS, text="0"),
    ],
)  # fmt: skip
def test_every_later_call_of_the_process_is_esrch_and_does_nothing(request_: Request) -> None:
    partition = booted(2, qos=1)
    client = stubborn(partition)
    partition.mmap(partition.open_window(client))
    segmentation_fault(partition)
    failure = partition.fails(client, request_, KernelReason.KILLED)
    assert failure.errno == errno.ESRCH
    assert partition.core.statistics().pools == booted(2, qos=1).core.statistics().pools


def test_a_call_under_way_is_esrch_when_it_ends() -> None:
    partition = booted(2)
    client = stubborn(partition)
    windows = [partition.open_window(client) for _ in range(2)]
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_LONG_BUSY_ORDER_10_MSEC)
    closing = partition.call(client, CloseDescriptor(descriptor=windows[1].descriptor))
    segmentation_fault(partition)
    partition.advance(30)
    assert partition.answer(client, closing, OsFailure).reason is KernelReason.KILLED
    assert partition.credits() == (2, 0)


@pytest.mark.parametrize("taken_first", [True, False])
def test_an_open_under_way_ends_with_esrch_and_its_window_is_given_back(taken_first: bool) -> None:
    partition = booted(2)
    client = stubborn(partition)
    partition.open_window(client)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    opening = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    segmentation_fault(partition)
    assert partition.credits() == (2, 2), "the close of the first window waits behind the allocation"
    if taken_first:
        client.answer_kernel()
        partition.settle()
    partition.hypervisor.release()
    partition.settle()
    assert partition.credits() == (2, 0)
    assert not partition.hypervisor.windows
    assert partition.core.kernel.is_idle
    if not taken_first:
        assert partition.answer(client, opening, OsFailure).reason is KernelReason.KILLED
    assert len(partition.core.kernel.driver.fault_lines) == 0


@fidelity(
    "3 faults",
    "Nothing is written and nobody is signalled while the task is exiting or after it has exited.",
    source="T:api",
)
def test_further_faults_of_the_dying_process_are_fetched_without_a_second_signal() -> None:
    partition = booted(2)
    client = stubborn(partition)
    windows = [partition.open_window(client) for _ in range(2)]
    partition.hypervisor.raise_fault(windows[1].window_id, 1, csb_address=NULL, notify=False)
    segmentation_fault(partition)
    partition.advance(20)
    assert partition.credits() == (2, 1), "the deallocation waits for the second fault"
    partition.hypervisor.interrupt(windows[1].window_id, 1)
    partition.advance(5)
    assert partition.credits() == (2, 0)
    client.answer_kernel()
    assert len(client.signals) == 1
    assert partition.core.statistics().killed == 1


def test_the_signal_is_repeated_until_the_process_takes_it() -> None:
    partition = booted(1)
    window = partition.open_window(partition.process(pid=PID))
    window.client.running = False
    partition.hypervisor.raise_fault(1, 1, csb_address=NULL)
    partition.settle()
    window.client.running = True
    partition.advance(10_000)
    assert len(window.client.signals) == 1


def test_a_process_whose_connection_is_gone_loses_its_session_with_its_lease() -> None:
    partition = booted(1)
    client = stubborn(partition)
    partition.open_window(client)
    segmentation_fault(partition)
    partition.kill(client)
    partition.advance(3_000)
    assert client.dialer.session.name in partition.core.listener.sessions
    partition.advance(5_000)
    assert client.dialer.session.name not in partition.core.listener.sessions
    assert partition.core.kernel.is_idle


def test_a_process_that_does_not_know_the_message_loses_its_session_too() -> None:
    partition = booted(1)
    client = stubborn(partition)
    partition.open_window(client)
    segmentation_fault(partition)
    (event,) = client.waiting
    refusal = refuse(RefusalCode.UNKNOWN_TYPE, "a reply", "raise_signal")
    client.dialer.answer(event.session, event.number, refusal)
    partition.settle()
    assert client.dialer.session.name not in partition.core.listener.sessions


def test_a_new_process_starts_clean() -> None:
    partition = booted(1)
    client = partition.process(pid=PID)
    partition.open_window(client)
    segmentation_fault(partition)
    client.dialer.start_over(b"another-incarnat", partition.now_us)
    partition.advance(1_000)
    reply = partition.ask(client, TxWinOpen(descriptor=partition.device(client), vas_id=0), WindowOpened)
    partition.hypervisor.raise_fault(reply.window_id, 1)
    partition.settle()
    assert len(client.blocks) == 1
    assert len(client.signals) == 1
    partition.ask(client, CloseDescriptor(descriptor=3), Done)
