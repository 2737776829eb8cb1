"""Opens and closes of windows whose NX unit does not answer: other units go on being used (design.md, "Safe reuse")."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import CloseDescriptor, Done, OsFailure, TxWinOpen, WindowOpened
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import booted
from tests.lpar.test_busy import DEADLINE_MS, lower, start_open


@fidelity(
    "5 close",
    "A close holds the driver's mutex until the hypervisor has taken the window, and opens wait behind it.",
    source="K:vas.c",
    differs=(
        "After 100 ms of busy answers it goes on without the mutex: an NX unit that does not answer would keep "
        "everybody from opening windows at the others. The window's credit stays taken until it is back."
    ),
)
def test_a_close_that_stays_busy_lets_others_open_windows_and_keeps_its_credit() -> None:
    partition = booted(3)
    (window,) = partition.open_windows(1)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    closing = partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
    client = partition.process()
    descriptor = partition.device(client)
    number = partition.call(client, TxWinOpen(descriptor=descriptor, vas_id=0))
    partition.advance(99)
    assert number not in client.answers, "the close has the mutex"
    partition.advance(2)
    opened = partition.answer(client, number, WindowOpened)
    assert partition.credits() == (3, 2), "the window that is being closed counts"
    assert partition.pool().active == 1
    partition.advance(3 * DEADLINE_MS)
    assert closing not in window.client.answers
    partition.call(client, CloseDescriptor(descriptor=descriptor))
    partition.hypervisor.always.clear()
    partition.advance(20)
    partition.answer(window.client, closing, Done)
    assert partition.credits() == (3, 0)
    assert (partition.pool().progress, partition.pool().nr_open) == (0, 0)
    assert opened.window_id not in partition.hypervisor.windows


def test_a_close_that_fails_after_others_went_on_keeps_its_credit_for_ever() -> None:
    partition = booted(3)
    (window,) = partition.open_windows(1)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    closing = partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
    partition.advance(200)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_STATE
    partition.advance(20)
    partition.answer(window.client, closing, Done)
    assert partition.credits() == (3, 1)
    assert (partition.pool().progress, partition.pool().nr_open) == (0, 0)
    assert partition.core.statistics().leaked == 1


def test_credits_that_go_while_a_close_lingers_close_no_window_too_many() -> None:
    partition = booted(3)
    windows = partition.open_windows(3)
    partition.hypervisor.returns(HDeallocateVasWindow, *[HcallCode.H_LONG_BUSY_ORDER_10_MSEC] * 20)
    partition.call(windows[2].client, CloseDescriptor(descriptor=windows[2].descriptor))
    partition.advance(120)
    lower(partition, CreditType.DEFAULT, 2)
    partition.advance(1_000)
    assert partition.pool().active == 2
    assert partition.credits() == (2, 2)


@fidelity(
    "5 open",
    "An open waits for the window that it was allocated, however long H_MODIFY is busy.",
    source="K:vas.c",
    differs=(
        "At H_LONG_BUSY_ORDER_100_MSEC, the answer where the window's NX unit is out of reach, it asks for another "
        "window, once, if the partition has another credit. The first credit stays taken until the hypervisor has "
        "that window back."
    ),
)
def test_an_open_whose_unit_is_out_of_reach_gets_another_window() -> None:
    partition = booted(2)
    partition.hypervisor.returns(HModifyVasWindow, HcallCode.H_LONG_BUSY_ORDER_100_MSEC)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    client, number = start_open(partition)
    partition.advance(1)
    assert partition.answer(client, number, WindowOpened).window_id == 2
    assert partition.credits() == (2, 2)
    assert (partition.pool().progress, partition.pool().nr_open) == (1, 1)
    partition.hypervisor.always.clear()
    partition.advance(20)
    assert partition.credits() == (2, 1)
    assert partition.pool().progress == 0
    assert list(partition.hypervisor.windows) == [2]


@pytest.mark.parametrize("credits", [1, 5], ids=["no-credit-left", "no-other-unit"])
def test_an_open_that_cannot_have_another_window_waits_for_its_first(credits: int) -> None:
    partition = booted(credits)
    partition.hypervisor.returns(HModifyVasWindow, *[HcallCode.H_LONG_BUSY_ORDER_100_MSEC] * 20)
    partition.hypervisor.returns(HAllocateVasWindow, None, HcallCode.H_CONSTRAINED)
    client, number = start_open(partition)
    partition.advance(150)
    assert number not in client.answers
    assert partition.credits() == (credits, 1)
    partition.advance(100)
    assert partition.answer(client, number, WindowOpened).window_id == 1
    assert partition.credits() == (credits, 1)
    assert (partition.pool().progress, partition.pool().nr_open) == (0, 1)


@pytest.mark.parametrize("when", ["at-the-first", "at-the-second"])
def test_an_open_whose_units_are_all_out_of_reach_ends_at_its_deadline_and_leaves_nothing(when: str) -> None:
    partition = booted(5)
    partition.hypervisor.always[HModifyVasWindow] = HcallCode.H_LONG_BUSY_ORDER_100_MSEC
    if when == "at-the-first":
        partition.hypervisor.returns(HAllocateVasWindow, None, HcallCode.H_CONSTRAINED)
    client, number = start_open(partition)
    partition.advance(DEADLINE_MS - 1)
    assert number not in client.answers
    partition.advance(20)
    failure = partition.answer(client, number, OsFailure)
    assert (failure.errno, failure.reason) == (errno.EIO, KernelReason.HCALL_BUSY)
    assert partition.credits() == (5, 0)
    assert partition.pool().progress == 0
    assert not partition.hypervisor.windows


def test_an_open_that_ends_while_it_asks_for_another_window_gives_both_back() -> None:
    partition = booted(5)
    partition.hypervisor.returns(HModifyVasWindow, HcallCode.H_LONG_BUSY_ORDER_100_MSEC)
    partition.hypervisor.returns(HAllocateVasWindow, None, Silence.HOLD)
    client, number = start_open(partition)
    partition.advance(DEADLINE_MS + 1)
    assert partition.answer(client, number, OsFailure).reason is KernelReason.HCALL_BUSY
    partition.hypervisor.release()
    partition.advance(20)
    assert partition.credits() == (5, 0)
    assert partition.pool().progress == 0
    assert not partition.hypervisor.windows
