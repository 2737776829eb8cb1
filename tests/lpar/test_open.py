"""Opening a window: every row of the ioctl table of domain.md section 3, and the steps of 5.3."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import HYPERVISOR_CHOOSES, MODIFY_FLAGS, CreditType, HcallCode, KernelReason
from protocol.device_messages import OpenDevice, OsFailure, TxWinOpen, WindowOpened
from protocol.hcall_messages import (
    Associativity,
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HHomeNodeAssociativity,
    HModifyVasWindow,
)
from protocol.message import Request
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted


def open_fails(partition: Partition, reason: KernelReason, request: TxWinOpen | None = None) -> OsFailure:
    client = partition.process()
    descriptor = partition.device(client)
    asked = request or TxWinOpen(descriptor=descriptor, vas_id=0)
    return partition.fails(client, asked.model_copy(update={"descriptor": descriptor}), reason)


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


def test_the_qos_flag_takes_a_qos_credit_and_unknown_flags_are_ignored() -> None:
    partition = booted(1, qos=1)
    client = partition.process()
    descriptor = partition.device(client)
    partition.ask(client, TxWinOpen(descriptor=descriptor, vas_id=0, flags=0x7FF1), WindowOpened)
    call = partition.hypervisor.made[0]
    assert isinstance(call, HAllocateVasWindow)
    assert call.window_type == CreditType.QOS
    assert partition.credits(CreditType.QOS) == (1, 1)
    assert partition.credits() == (1, 0)


@pytest.mark.parametrize("vas_id", [0, 1, 5, -2, 32767, -32768])
def test_a_vas_id_other_than_minus_one_means_nothing(vas_id: int) -> None:
    partition = booted(1)
    client = partition.process()
    partition.ask(client, TxWinOpen(descriptor=partition.device(client), vas_id=vas_id), WindowOpened)
    call = partition.hypervisor.made[0]
    assert isinstance(call, HAllocateVasWindow)
    assert call.domain == (HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0)


def test_vas_id_minus_one_asks_for_the_callers_home_node() -> None:
    partition = booted(1)
    client = partition.process()
    partition.ask(client, TxWinOpen(descriptor=partition.device(client), processor_id=24), WindowOpened)
    first, second, _modify = partition.hypervisor.made
    assert first == HHomeNodeAssociativity(flags=1, processor_id=24)
    assert second == HAllocateVasWindow(window_type=1, credits=1, domain=(7, 24, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("code", "number"), [(HcallCode.H_P2, 55), (HcallCode.H_FUNCTION, 2), (HcallCode.H_BUSY, errno.EIO)]
)
def test_a_failing_associativity_hcall_shows_its_code_as_errno(code: HcallCode, number: int) -> None:
    partition = booted(1)
    partition.hypervisor.returns(HHomeNodeAssociativity, code)
    failure = open_fails(partition, KernelReason.HCALL_FAILED, TxWinOpen(descriptor=0, vas_id=-1))
    assert (failure.errno, failure.hcall) == (number, code)
    assert partition.credits() == (1, 0)


def test_a_second_window_on_a_descriptor_is_eexist() -> None:
    partition = booted(2)
    window = partition.open_window(partition.process())
    failure = partition.fails(
        window.client, TxWinOpen(descriptor=window.descriptor, version=9), KernelReason.WINDOW_EXISTS
    )
    assert failure.errno == errno.EEXIST


def test_a_second_ioctl_beside_a_running_one_is_eexist() -> None:
    partition = booted(2)
    client = partition.process()
    descriptor = partition.device(client)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    first = partition.call(client, TxWinOpen(descriptor=descriptor, vas_id=0))
    partition.fails(client, TxWinOpen(descriptor=descriptor, vas_id=0), KernelReason.WINDOW_EXISTS)
    partition.hypervisor.release()
    partition.settle()
    partition.answer(client, first, WindowOpened)
    assert partition.credits() == (2, 1)


@pytest.mark.parametrize("version", [0, 2, -1, 1 << 40])
def test_another_version_is_einval(version: int) -> None:
    partition = booted(1)
    failure = open_fails(partition, KernelReason.VERSION, TxWinOpen(descriptor=0, version=version))
    assert failure.errno == errno.EINVAL
    assert not partition.hypervisor.made


@pytest.mark.parametrize("attributes", [{"flags": -1}, {"vas_id": 32768}, {"vas_id": -32769}])
def test_numbers_that_do_not_fit_their_fields_are_einval(attributes: dict[str, int]) -> None:
    partition = booted(1)
    failure = open_fails(partition, KernelReason.FLAGS, TxWinOpen(descriptor=0).model_copy(update=attributes))
    assert failure.errno == errno.EINVAL


def test_an_unknown_descriptor_is_ebadf() -> None:
    partition = booted(1)
    failure = partition.fails(partition.process(), TxWinOpen(descriptor=77), KernelReason.BAD_DESCRIPTOR)
    assert failure.errno == errno.EBADF


def test_an_exhausted_pool_is_einval_without_an_hcall() -> None:
    partition = booted(2)
    partition.open_windows(2)
    partition.hypervisor.made.clear()
    failure = open_fails(partition, KernelReason.NO_CREDIT, TxWinOpen(descriptor=0, vas_id=-1))
    assert failure.errno == errno.EINVAL
    assert not partition.hypervisor.made
    assert partition.credits() == (2, 2)


def test_a_type_without_credits_is_einval() -> None:
    failure = open_fails(booted(1), KernelReason.NO_CREDIT, TxWinOpen(descriptor=0, flags=1))
    assert failure.errno == errno.EINVAL


@pytest.mark.parametrize("request_type", [HAllocateVasWindow, HModifyVasWindow])
@pytest.mark.parametrize(
    "code",
    [HcallCode.H_RESOURCE, HcallCode.H_CONSTRAINED, HcallCode.H_PARAMETER, HcallCode.H_COP_HW, HcallCode.H_STATE,
     HcallCode.H_P2, HcallCode.H_HARDWARE],
)  # fmt: skip
def test_a_failing_hcall_is_eio_and_its_code_stands_beside_it(request_type: type[Request], code: HcallCode) -> None:
    partition = booted(1)
    partition.hypervisor.returns(request_type, code)
    failure = open_fails(partition, KernelReason.HCALL_FAILED)
    assert (failure.errno, failure.hcall) == (errno.EIO, code)
    assert partition.credits() == (1, 0)
    assert partition.pool().progress == 0
    assert not partition.hypervisor.windows


def test_a_missing_paste_address_is_enotsup_and_the_window_goes_back() -> None:
    partition = booted(1)
    partition.hypervisor.without_address = True
    failure = open_fails(partition, KernelReason.NOT_SUPPORTED)
    assert failure.errno == errno.ENOTSUP
    assert not partition.hypervisor.windows
    assert partition.credits() == (1, 0)


def test_an_answer_of_another_hcall_is_a_failure_not_a_crash() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HAllocateVasWindow, Associativity(code=HcallCode.H_SUCCESS))
    failure = open_fails(partition, KernelReason.HCALL_FAILED)
    assert (failure.errno, failure.hcall) == (errno.EIO, None)
    partition.hypervisor.returns(HAllocateVasWindow, HcallStatus(code=HcallCode.H_SUCCESS))
    open_fails(partition, KernelReason.HCALL_FAILED)
    assert partition.credits() == (1, 0)


def test_during_a_migration_opens_are_ebusy() -> None:
    partition = booted(1)
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.made.clear()
    assert open_fails(partition, KernelReason.MIGRATION).errno == errno.EBUSY
    assert not partition.hypervisor.made
    partition.core.resume(partition.now_us)
    partition.settle()
    partition.open_window(partition.process())


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


def test_closed_windows_of_one_type_do_not_hinder_the_other() -> None:
    partition = booted(1, qos=1)
    partition.open_windows(1)
    partition.retarget(0)
    partition.open_window(partition.process(), qos=True)


def test_without_copy_paste_there_is_no_device() -> None:
    partition = booted(1)
    partition.core.kernel.driver.copy_paste = False
    failure = partition.fails(partition.process(), OpenDevice(), KernelReason.NO_DEVICE)
    assert failure.errno == errno.ENODEV


def test_a_process_reaches_its_limit_of_descriptors() -> None:
    partition = booted(1)
    partition.core.kernel.calls.descriptor_limit = 3
    client = partition.process()
    assert [partition.device(client) for _ in range(3)] == [3, 4, 5]
    assert partition.fails(client, OpenDevice(), KernelReason.LIMIT).errno == errno.EMFILE
