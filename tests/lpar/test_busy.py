"""The busy loop, its sleeps, the mutex, and the deadline of opens (domain.md 1 and 5.3; design.md, "Safe reuse")."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import OsFailure, TxWinOpen, WindowOpened
from protocol.hcall_messages import (
    ConfigurationKind,
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HHomeNodeAssociativity,
    HModifyVasWindow,
)
from protocol.message import Request
from tests.fidelity.rows import fidelity
from tests.lpar.client_process import Client
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted

DEADLINE_MS = 10_000


def start_open(
    partition: Partition, client: Client | None = None, vas_id: int = 0, flags: int = 0
) -> tuple[Client, int]:
    client = client or partition.process()
    attributes = TxWinOpen(descriptor=partition.device(client), vas_id=vas_id, flags=flags)
    return client, partition.call(client, attributes)


def lower(partition: Partition, credit_type: CreditType, target: int) -> None:
    """The partition has so few credits of the type from now on."""
    partition.hypervisor.announce(ConfigurationKind.CPU, 1)
    partition.hypervisor.targets[credit_type] = target
    partition.settle()


def gaps_ms(partition: Partition) -> list[float]:
    moments = partition.hypervisor.made_at_us
    return [(later - earlier) / 1_000 for earlier, later in pairwise(moments)]


@fidelity(
    "1 errnos",
    "Busy codes of allocate, modify and deallocate are not errors: the driver makes the hcall again.",
    source="K:vas.c",
)
@fidelity("1 errnos", "After long busy the driver sleeps for the hint, at least 1 and at most 10 ms.", source="K:vas.c")
@fidelity(
    "1 errnos",
    "The sleep is a range that begins at a tenth of the clamped hint.",
    source="K:vas.c",
    differs="It is the clamped hint exactly, so that a run can be repeated.",
)
@fidelity(
    "1 errnos",
    "After H_BUSY the driver only yields.",
    source="K:vas.c",
    differs="It waits 1 ms, because the hypervisor is another process that is reached by messages.",
)
@pytest.mark.parametrize(
    ("code", "wait_ms"),
    [
        (HcallCode.H_BUSY, 1),
        (HcallCode.H_LONG_BUSY_ORDER_1_MSEC, 1),
        (HcallCode.H_LONG_BUSY_ORDER_10_MSEC, 10),
        (HcallCode.H_LONG_BUSY_ORDER_100_MSEC, 10),
    ],
)
def test_a_busy_hcall_is_made_again_as_a_new_request_after_the_clamped_hint(code: HcallCode, wait_ms: int) -> None:
    partition = booted(1)
    partition.hypervisor.returns(HAllocateVasWindow, code, code, code)
    client, number = start_open(partition)
    partition.advance(100)
    partition.answer(client, number, WindowOpened)
    assert [type(call) for call in partition.hypervisor.made] == [HAllocateVasWindow] * 4 + [HModifyVasWindow]
    assert gaps_ms(partition)[:3] == [wait_ms] * 3
    assert len(set(partition.hypervisor.numbers)) == 5
    assert partition.core.statistics().hcalls[code] == 3


@fidelity(
    "1 errnos",
    "An open loops on busy codes without end.",
    source="K:vas.c",
    differs=(
        "At `kernel_deadline_ms` it ends with EIO, reason `hcall_busy`, and what the hypervisor may have "
        "granted is given back."
    ),
)
@pytest.mark.parametrize("request_type", [HAllocateVasWindow, HModifyVasWindow])
def test_an_open_at_a_busy_hypervisor_ends_at_the_deadline(request_type: type[Request]) -> None:
    partition = booted(1)
    partition.hypervisor.always[request_type] = HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    client, number = start_open(partition)
    partition.advance(DEADLINE_MS - 1)
    assert number not in client.answers
    partition.advance(2)
    failure = partition.answer(client, number, OsFailure)
    assert (failure.errno, failure.reason) == (errno.EIO, KernelReason.HCALL_BUSY)
    assert partition.credits() == (1, 0)
    assert partition.pool().progress == 0
    assert not partition.hypervisor.windows
    partition.hypervisor.always.clear()
    partition.open_window(partition.process())


@fidelity(
    "1 errnos",
    "An open loops on busy codes without end.",
    source="K:vas.c",
    differs=(
        "At `kernel_deadline_ms` it ends with EIO, reason `hcall_busy`, and what the hypervisor may have "
        "granted is given back."
    ),
)
def test_a_silent_allocate_ends_at_the_deadline_and_a_late_window_is_given_back() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    client, number = start_open(partition)
    partition.advance(DEADLINE_MS + 1)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.HCALL_BUSY
    assert partition.credits() == (1, 1)
    partition.hypervisor.returns(HDeallocateVasWindow, *[HcallCode.H_LONG_BUSY_ORDER_10_MSEC] * 2)
    partition.hypervisor.release()
    partition.settle()
    assert partition.hypervisor.windows
    partition.advance(30)
    assert not partition.hypervisor.windows
    assert partition.credits() == (1, 0)
    assert partition.pool().progress == 0
    assert not any(isinstance(call, HModifyVasWindow) for call in partition.hypervisor.made)


def test_a_late_busy_after_the_deadline_is_not_repeated() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    start_open(partition)
    partition.advance(DEADLINE_MS + 1)
    partition.hypervisor.made.clear()
    partition.hypervisor.release(HcallCode.H_LONG_BUSY_ORDER_10_MSEC)
    partition.advance(100)
    assert not partition.hypervisor.made
    assert partition.credits() == (1, 0)


def test_a_silent_modify_is_undone_when_it_returns_even_with_success() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    client, number = start_open(partition)
    partition.advance(DEADLINE_MS + 1)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.HCALL_BUSY
    partition.hypervisor.release()
    partition.settle()
    assert not partition.hypervisor.windows
    assert partition.credits() == (1, 0)


def test_a_silent_associativity_hcall_ends_at_the_deadline() -> None:
    partition = booted(1)
    partition.hypervisor.returns(HHomeNodeAssociativity, Silence.HOLD)
    client, number = start_open(partition, vas_id=-1)
    partition.advance(DEADLINE_MS + 1)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.HCALL_BUSY
    partition.hypervisor.release()
    partition.settle()
    assert partition.credits() == (1, 0)
    assert [type(call) for call in partition.hypervisor.made] == [HHomeNodeAssociativity]


@fidelity(
    "1 errnos",
    "An open loops on busy codes without end.",
    source="K:vas.c",
    differs=(
        "At `kernel_deadline_ms` it ends with EIO, reason `hcall_busy`, and what the hypervisor may have "
        "granted is given back."
    ),
)
@fidelity("1 errnos", "Closes and reconfigurations loop on busy codes without end.", source="K:vas.c")
def test_opens_behind_a_reconfiguration_that_stays_busy_time_out_on_the_mutex() -> None:
    partition = booted(2, qos=2)
    windows = partition.open_windows(2)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    lower(partition, CreditType.DEFAULT, 1)
    client, number = start_open(partition, flags=1)
    partition.advance(5_000)
    other, later = start_open(partition, flags=1)
    partition.advance(5_001)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.HCALL_BUSY
    assert later not in other.answers
    assert not partition.hypervisor.reports
    partition.hypervisor.always.clear()
    partition.advance(20)
    assert partition.hypervisor.reports[-1].closed == (windows[1].window_id,)
    partition.answer(other, later, WindowOpened)


def test_an_open_that_times_out_before_it_is_listed_gives_its_window_back() -> None:
    partition = booted(3)
    partition.open_windows(1)
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    client, number = start_open(partition)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    lower(partition, CreditType.DEFAULT, 0)
    held = partition.hypervisor.held
    session, modify, body = held.pop(0)
    assert isinstance(body, HModifyVasWindow)
    partition.hypervisor.listener.answer(session, modify, partition.hypervisor._reply(body, None))
    partition.advance(DEADLINE_MS + 1)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.HCALL_BUSY
    partition.hypervisor.release()
    partition.settle()
    assert partition.credits() == (0, 1), "the window that was closed for want of credit"
    assert partition.pool().progress == 0
    assert not partition.hypervisor.windows


@fidelity("1 errnos", "Closes and reconfigurations loop on busy codes without end.", source="K:vas.c")
def test_a_reconfiguration_waits_for_a_busy_deallocation_without_a_deadline() -> None:
    partition = booted(2)
    partition.open_windows(2)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_BUSY
    lower(partition, CreditType.DEFAULT, 1)
    partition.advance(2 * DEADLINE_MS)
    assert not partition.hypervisor.reports
    partition.hypervisor.always.clear()
    partition.advance(5)
    assert partition.hypervisor.reports[-1].closed == (2,)


def test_the_mutex_is_granted_in_the_order_of_arrival() -> None:
    partition = booted(20)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    clients = [partition.process(pid=100 + number) for number in range(5)]
    for client in clients:
        start_open(partition, client)
    partition.hypervisor.release()
    partition.settle()
    modified = [call.process_id for call in partition.hypervisor.made if isinstance(call, HModifyVasWindow)]
    assert modified == [100, 101, 102, 103, 104]


def test_thousands_of_opens_waiting_for_the_mutex_are_refused_without_deep_recursion() -> None:
    partition = booted(3_000)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    clients = [partition.process(pid=number) for number in range(50)]
    descriptors = [(client, partition.device(client)) for client in clients for _ in range(60)]
    numbers = [
        (client, partition.call(client, TxWinOpen(descriptor=descriptor, vas_id=0)))
        for client, descriptor in descriptors
    ]
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.release()
    partition.advance(50)
    answers = [partition.answer(client, number, OsFailure).reason for client, number in numbers]
    assert answers == [KernelReason.MIGRATION] * 3_000
    assert partition.pool().used == 0
