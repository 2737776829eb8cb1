"""The steps of an open and their undoing (domain.md 5.3), and what an open asks the hypervisor for."""

from __future__ import annotations

import errno

from protocol.codes import HYPERVISOR_CHOOSES, MODIFY_FLAGS, HcallCode, KernelReason
from protocol.device_messages import OsFailure, TxWinOpen, WindowOpened
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HHomeNodeAssociativity,
    HModifyVasWindow,
)
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted


def open_fails(partition: Partition, reason: KernelReason, *, vas_id: int = 0) -> OsFailure:
    client = partition.process()
    return partition.fails(client, TxWinOpen(descriptor=partition.device(client), vas_id=vas_id), reason)


@fidelity(
    "1 errnos",
    "Where the hypervisor is to choose, domain[0] is all ones and domain[1] to domain[5] are 0.",
    source="K:vas.c",
)
@fidelity(
    "1 errnos",
    "H_MODIFY_VAS_WINDOW gets the opener's process id, thread id 0, JOBS_KILL, DR, PR and SF as flags, and AMR 0.",
    source="K:vas.c",
)
@fidelity(
    "5 open",
    "Step 5: under the mutex again, without closed windows of the type and without a migration, the window goes "
    "to the head of the list.",
    source="K:vas.c",
)
def test_an_open_reserves_binds_and_lists_the_window() -> None:
    partition = booted(2)
    client = partition.process(pid=321)
    window = partition.open_window(client)
    assert partition.hypervisor.made == [
        HAllocateVasWindow(window_type=1, credits=1, domain=(HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0)),
        HModifyVasWindow(window_id=1, process_id=321, thread_id=0, flags=MODIFY_FLAGS, amr=0),
    ]
    assert window.window_id == 1
    assert partition.listing() == [["1", "default", "1", "active", "321", "3"]]
    assert partition.credits() == (2, 1)


@fidelity(
    "3 ioctl",
    "While windows of its type are closed for lack of credit an open is EBUSY, after a window was allocated, "
    "bound and deallocated.",
    source="K:vas.c",
)
@fidelity(
    "5 open",
    "Step 5, otherwise: everything is undone, the hypervisor's window, the interrupt, the opens in progress and "
    "used, and the open is EBUSY.",
    source="K:vas.c",
)
def test_closed_windows_have_first_claim_and_the_new_one_is_undone() -> None:
    partition = booted(3)
    windows = partition.open_windows(3)
    partition.retarget(2)
    for window in windows[:2]:
        partition.close(window)
    partition.hypervisor.made.clear()
    assert open_fails(partition, KernelReason.CLOSED_WINDOWS).errno == errno.EBUSY
    kinds = [type(call) for call in partition.hypervisor.made]
    assert kinds == [HAllocateVasWindow, HModifyVasWindow, HDeallocateVasWindow]
    assert partition.credits() == (2, 1)
    assert partition.pool().progress == 0
    partition.close(windows[2])
    partition.open_window(partition.process())


@fidelity(
    "5 open",
    "Step 5, otherwise: everything is undone, the hypervisor's window, the interrupt, the opens in progress and "
    "used, and the open is EBUSY.",
    source="K:vas.c",
)
@fidelity(
    "5 races",
    "If that removal closes another window the open under way gives way to it: it is undone and EBUSY.",
    source="K:vas.c",
)
def test_the_check_for_closed_windows_comes_after_the_modify() -> None:
    partition = booted(3)
    partition.open_windows(2)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.retarget(1)
    assert partition.with_status("no_cred_close") == [2]
    partition.hypervisor.release()
    partition.settle()
    failure = partition.answer(client, number, OsFailure)
    assert failure.reason is KernelReason.CLOSED_WINDOWS
    assert partition.credits() == (1, 2)


@fidelity(
    "5 races",
    "A removal between the allocation of a window and its listing does not see it: if it closes nothing, active "
    "windows exceed the total by the opens under way.",
    source="K:vas.c",
)
def test_an_open_in_flight_escapes_a_removal_that_closes_nothing() -> None:
    partition = booted(2)
    partition.open_windows(1)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.retarget(1)
    partition.hypervisor.release()
    partition.settle()
    partition.answer(client, number, WindowOpened)
    assert partition.credits() == (1, 2)
    assert partition.pool().active == 2


@fidelity(
    "5 open",
    "The two types are independent: closed windows of one do not hinder opens of the other.",
    source="K:vas.c",
)
def test_closed_windows_of_one_type_do_not_hinder_the_other() -> None:
    partition = booted(1, qos=1)
    partition.open_windows(1)
    partition.retarget(0)
    partition.open_window(partition.process(), qos=True)


@fidelity(
    "5 open",
    "Step 1: used is raised first; if it exceeds total it is lowered again, and the open is EINVAL.",
    source="K:vas.c",
)
@fidelity(
    "5 open",
    "Step 2: for vas_id -1 the associativity is asked for, before the mutex is taken.",
    source="K:vas.c",
)
def test_a_credit_of_the_count_is_taken_before_anything_is_asked() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HHomeNodeAssociativity, Silence.HOLD)
    client = partition.process()
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=-1))
    assert partition.credits() == (1, 1)
    assert partition.core.kernel.driver.mutex.holder is None
    open_fails(partition, KernelReason.NO_CREDIT)
    assert partition.credits() == (1, 1), "the refused open has given back what it counted"
    partition.hypervisor.release()
    partition.settle()
    partition.answer(client, number, WindowOpened)


@fidelity(
    "5 open",
    "Step 3: under the mutex a migration is EBUSY; otherwise the window is allocated with its interrupt and "
    "counted as in progress.",
    source="K:vas.c",
)
@fidelity("5 open", "Step 4: H_MODIFY is made without the mutex.", source="K:vas.c")
@fidelity(
    "5 open",
    "Step 5: under the mutex again, without closed windows of the type and without a migration, the window goes "
    "to the head of the list.",
    source="K:vas.c",
)
def test_a_binding_under_way_does_not_hold_the_mutex() -> None:
    partition = booted(2)
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    client = partition.process()
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    assert partition.pool().progress == 1
    partition.open_window(partition.process())
    assert partition.listing()[0][:3] == ["1", "default", "2"], "the later open was listed first"
    partition.hypervisor.release()
    partition.settle()
    partition.answer(client, number, WindowOpened)
    assert [line[2] for line in partition.listing()] == ["1", "2"], "the head of the list is the window listed last"


@fidelity("5 open", "A failing H_MODIFY undoes everything likewise.", source="K:vas.c")
def test_a_failed_binding_gives_the_window_the_counts_and_the_interrupt_back() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HModifyVasWindow, HcallCode.H_P2)
    open_fails(partition, KernelReason.HCALL_FAILED)
    kinds = [type(call) for call in partition.hypervisor.made]
    assert kinds == [HAllocateVasWindow, HModifyVasWindow, HDeallocateVasWindow]
    assert (partition.credits(), partition.pool().progress) == ((1, 0), 0)
    assert len(partition.core.kernel.driver.fault_lines) == 0
    assert partition.listing() == []


@fidelity(
    "5 reconfigure",
    "A reopened window is allocated wherever the hypervisor likes: the affinity asked for at its open is lost.",
    source="K:vas.c",
)
def test_a_window_opened_near_its_caller_comes_back_wherever_the_hypervisor_likes() -> None:
    partition = booted(1)
    client = partition.process()
    partition.ask(client, TxWinOpen(descriptor=partition.device(client), vas_id=-1, processor_id=24), WindowOpened)
    partition.retarget(0)
    partition.hypervisor.made.clear()
    partition.retarget(1)
    (allocated,) = [call for call in partition.hypervisor.made if isinstance(call, HAllocateVasWindow)]
    assert allocated.domain == (HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0)
