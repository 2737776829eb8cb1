"""Opening a window: every row of the ioctl table of domain.md section 3."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import HYPERVISOR_CHOOSES, REASON_ERRNO, CreditType, HcallCode, KernelReason
from protocol.device_messages import OpenDevice, OsFailure, TxWinOpen, WindowOpened
from protocol.hcall_messages import (
    Associativity,
    HAllocateVasWindow,
    HcallStatus,
    HHomeNodeAssociativity,
    HModifyVasWindow,
)
from protocol.message import Request
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted


def open_fails(partition: Partition, reason: KernelReason, request: TxWinOpen | None = None) -> OsFailure:
    client = partition.process()
    descriptor = partition.device(client)
    asked = request or TxWinOpen(descriptor=descriptor, vas_id=0)
    return partition.fails(client, asked.model_copy(update={"descriptor": descriptor}), reason)


@fidelity("3 ioctl", "Bit 0 of the flags asks for a QoS credit.", source="T:uapi")
@fidelity("3 ioctl", "Unknown flags are not checked.", source="T:api")
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


@fidelity(
    "1 errnos",
    "Where the hypervisor is to choose, domain[0] is all ones and domain[1] to domain[5] are 0.",
    source="K:vas.c",
)
@fidelity("3 ioctl", "vas_id is ignored unless it is -1.", source="K:vas.c")
@pytest.mark.parametrize("vas_id", [0, 1, 5, -2, 32767, -32768])
def test_a_vas_id_other_than_minus_one_means_nothing(vas_id: int) -> None:
    partition = booted(1)
    client = partition.process()
    partition.ask(client, TxWinOpen(descriptor=partition.device(client), vas_id=vas_id), WindowOpened)
    call = partition.hypervisor.made[0]
    assert isinstance(call, HAllocateVasWindow)
    assert call.domain == (HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0)


@fidelity(
    "3 ioctl",
    "vas_id -1 asks H_HOME_NODE_ASSOCIATIVITY for the calling processor, by its hardware number, and passes the "
    "domain on.",
    source="K:vas.c",
)
@fidelity(
    "5 open",
    "Step 2: for vas_id -1 the associativity is asked for, before the mutex is taken.",
    source="K:vas.c",
)
def test_vas_id_minus_one_asks_for_the_callers_home_node() -> None:
    partition = booted(1)
    client = partition.process()
    partition.ask(client, TxWinOpen(descriptor=partition.device(client), processor_id=24), WindowOpened)
    first, second, _modify = partition.hypervisor.made
    assert first == HHomeNodeAssociativity(flags=1, processor_id=24)
    assert second == HAllocateVasWindow(window_type=1, credits=1, domain=(7, 24, 0, 0, 0, 0))


@fidelity(
    "3 ioctl",
    "A failing H_HOME_NODE_ASSOCIATIVITY comes back as its raw code, as if it were an errno: 55 for H_P2.",
    source="K:vas.c",
    differs="Negative codes likewise; a positive one, which Linux would take for a pointer, is EIO.",
)
@pytest.mark.parametrize(
    ("code", "number", "reason"),
    [
        (HcallCode.H_P2, 55, KernelReason.HCALL_RAW),
        (HcallCode.H_FUNCTION, 2, KernelReason.HCALL_RAW),
        (HcallCode.H_BUSY, errno.EIO, KernelReason.HCALL_FAILED),
    ],
)
def test_a_failing_associativity_hcall_shows_its_code_as_errno(
    code: HcallCode, number: int, reason: KernelReason
) -> None:
    partition = booted(1)
    partition.hypervisor.returns(HHomeNodeAssociativity, code)
    failure = open_fails(partition, reason, TxWinOpen(descriptor=0, vas_id=-1))
    assert (failure.errno, failure.hcall) == (number, code)
    assert partition.credits() == (1, 0)


@fidelity(
    "3 ioctl",
    "A descriptor that already has a window is EEXIST, whatever else is wrong with the attributes.",
    source="T:api",
)
def test_a_second_window_on_a_descriptor_is_eexist() -> None:
    partition = booted(2)
    window = partition.open_window(partition.process())
    failure = partition.fails(
        window.client, TxWinOpen(descriptor=window.descriptor, version=9), KernelReason.WINDOW_EXISTS
    )
    assert failure.errno == errno.EEXIST


@fidelity(
    "5 races",
    "Two ioctls that race on one descriptor may lose a window.",
    source="J:doc",
    differs="The second gets EEXIST.",
)
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


@fidelity("3 ioctl", "A version other than 1 is EINVAL.", source="T:api")
@pytest.mark.parametrize("version", [0, 2, -1, 1 << 40])
def test_another_version_is_einval(version: int) -> None:
    partition = booted(1)
    failure = open_fails(partition, KernelReason.VERSION, TxWinOpen(descriptor=0, version=version))
    assert failure.errno == errno.EINVAL
    assert not partition.hypervisor.made


@fidelity(
    "3 ioctl",
    "The structure has 64 bytes of fixed fields: what does not fit cannot be said.",
    source="T:uapi",
    differs="The attributes are numbers of a message; one that does not fit its field is EINVAL.",
)
@pytest.mark.parametrize("attributes", [{"flags": -1}, {"vas_id": 32768}, {"vas_id": -32769}])
def test_numbers_that_do_not_fit_their_fields_are_einval(attributes: dict[str, int]) -> None:
    partition = booted(1)
    failure = open_fails(partition, KernelReason.FLAGS, TxWinOpen(descriptor=0).model_copy(update=attributes))
    assert failure.errno == errno.EINVAL


def test_an_unknown_descriptor_is_ebadf() -> None:
    partition = booted(1)
    failure = partition.fails(partition.process(), TxWinOpen(descriptor=77), KernelReason.BAD_DESCRIPTOR)
    assert failure.errno == errno.EBADF


@fidelity(
    "3 ioctl",
    "An open that would make used exceed total is EINVAL, not EBUSY, EAGAIN or ENOSPC, and no hcall is made.",
    source="K:vas.c",
)
@fidelity(
    "5 open",
    "Step 1: used is raised first; if it exceeds total it is lowered again, and the open is EINVAL.",
    source="K:vas.c",
)
def test_an_exhausted_pool_is_einval_without_an_hcall() -> None:
    partition = booted(2)
    partition.open_windows(2)
    partition.hypervisor.made.clear()
    failure = open_fails(partition, KernelReason.NO_CREDIT, TxWinOpen(descriptor=0, vas_id=-1))
    assert failure.errno == errno.EINVAL
    assert not partition.hypervisor.made
    assert partition.credits() == (2, 2)


@fidelity(
    "3 ioctl",
    "An open that would make used exceed total is EINVAL, not EBUSY, EAGAIN or ENOSPC, and no hcall is made.",
    source="K:vas.c",
)
def test_a_type_without_credits_is_einval() -> None:
    failure = open_fails(booted(1), KernelReason.NO_CREDIT, TxWinOpen(descriptor=0, flags=1))
    assert failure.errno == errno.EINVAL


@fidelity(
    "1 errnos",
    "Whatever code H_ALLOCATE or H_MODIFY fails with, the caller of the ioctl gets EIO.",
    source="K:vas.c",
)
@fidelity(
    "1 errnos",
    "Which code it was stands in one line of the kernel's log.",
    source="K:vas.c",
    differs=(
        "The code comes back beside the errno, and each return of an hcall is counted; a refused open writes "
        "no log line."
    ),
)
@fidelity("3 ioctl", "A failing H_ALLOCATE or H_MODIFY is EIO.", source="K:vas.c")
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


@fidelity(
    "1 errnos",
    "An all-ones paste address is meant to be ENOTSUPP, but the check reads the address before it is filled in "
    "and never triggers.",
    source="K:vas.c",
    differs=(
        "The fault is not reproduced: a missing paste address is ENOTSUP, whose number programs know, and the "
        "window is given back."
    ),
)
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


@fidelity("3 ioctl", "While the partition migrates an open is EBUSY, and no window is allocated.", source="K:vas.c")
@fidelity(
    "5 open",
    "Step 3: under the mutex a migration is EBUSY; otherwise the window is allocated with its interrupt and "
    "counted as in progress.",
    source="K:vas.c",
)
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


@fidelity(
    "3 ioctl",
    "Where the hypervisor does not offer user-mode copy/paste there is no device to open.",
    source="K:vas.c",
)
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


@fidelity("3 ioctl", "ENOSPC, which the documentation names, never comes.", source="T:doc")
def test_no_reason_of_the_kernel_is_enospc() -> None:
    assert errno.ENOSPC not in REASON_ERRNO.values()
