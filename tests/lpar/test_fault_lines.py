"""How long a window's fault interrupt has a handler: from its allocation to its deallocation (domain.md 5.8)."""

from __future__ import annotations

from protocol.codes import HcallCode, KernelReason
from protocol.device_messages import CloseDescriptor, Done, TxWinOpen
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HGetNxFault,
    HModifyVasWindow,
)
from tests.lpar.faults import fault, fetches
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import booted


def test_an_interrupt_after_the_close_is_ignored() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    fault(partition, 1, 1)
    partition.close(window)
    partition.hypervisor.interrupt(1, 1)
    partition.hypervisor.interrupt(1, 2)
    partition.settle()
    assert len(fetches(partition)) == 1
    assert len(partition.core.kernel.driver.fault_lines) == 0
    assert partition.fault_listing() == []


def test_a_leaked_windows_faults_are_still_fetched() -> None:
    """H_DEALLOCATE failed, so that the hypervisor still has the window; its request must not hang."""
    partition = booted(2)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    partition.close(window)
    assert partition.core.statistics().leaked == 1
    fault(partition, 1, 1)
    assert len(window.client.blocks) == 1


def test_an_allocation_that_fails_leaves_no_line() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HAllocateVasWindow, HcallCode.H_RESOURCE)
    client = partition.process()
    partition.fails(client, TxWinOpen(descriptor=partition.device(client), vas_id=0), KernelReason.HCALL_FAILED)
    assert len(partition.core.kernel.driver.fault_lines) == 0


def test_a_handler_that_outlives_its_window_asks_for_no_more_faults() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
    fault(partition, 1, 1)
    partition.hypervisor.interrupt(1, 2)
    partition.settle()
    session, number, body = partition.hypervisor.held.pop()
    reply = partition.hypervisor._reply(body, None)
    partition.ask(window.client, CloseDescriptor(descriptor=window.descriptor), Done)
    partition.hypervisor.listener.answer(session, number, reply)
    partition.settle()
    assert len(fetches(partition)) == 1
    assert partition.core.kernel.is_idle


def test_a_reopening_that_fails_leaves_no_line() -> None:
    partition = booted(1)
    partition.open_windows(1)
    partition.retarget(0)
    partition.hypervisor.returns(HModifyVasWindow, HcallCode.H_P2)
    assert not partition.retarget(1).accepted
    assert not partition.hypervisor.windows
    assert len(partition.core.kernel.driver.fault_lines) == 0
