"""`reopen = "eager"`: what the kernel's rules leave closed comes back as soon as a credit is free."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import OsFailure, TxWinOpen
from protocol.hcall_messages import HAllocateVasWindow
from protocol.system import ReopenPolicy
from tests.lpar.partition import booted


def test_a_window_closed_by_its_user_lets_the_oldest_closed_one_come_back() -> None:
    partition = booted(10, reopen=ReopenPolicy.EAGER)
    windows = partition.open_windows(10)
    assert list(partition.retarget(7).closed) == [10, 9, 8]
    partition.close(windows[0])
    assert partition.with_status("no_cred_close") == [10, 9]
    assert partition.pool().active == 7
    for window in windows[1:4]:
        partition.close(window)
    assert partition.with_status("no_cred_close") == []
    assert partition.credits() == (7, 6)
    partition.open_window(partition.process())


def test_a_closed_window_dropped_by_its_user_makes_no_room() -> None:
    partition = booted(4, reopen=ReopenPolicy.EAGER)
    windows = partition.open_windows(4)
    partition.retarget(2)
    partition.close(windows[3])
    assert partition.with_status("no_cred_close") == [3]
    assert partition.with_status("active") == [2, 1]


def test_example_e_leaves_nothing_behind() -> None:
    partition = booted(10, reopen=ReopenPolicy.EAGER)
    partition.open_windows(10)
    partition.retarget(8)
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.retarget(10)
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.with_status("active") == list(range(10, 0, -1))


def test_reopened_beyond_the_kernels_rules_is_reported_too() -> None:
    partition = booted(10, reopen=ReopenPolicy.EAGER)
    partition.open_windows(10)
    partition.retarget(5)
    partition.hypervisor.returns(HAllocateVasWindow, HcallCode.H_RESOURCE)
    assert not partition.retarget(7).accepted
    report = partition.retarget(8)
    assert partition.order_of(report.reopened) == [6, 8, 7]
    assert partition.with_status("no_cred_close") == [10, 9]


def test_a_dead_process_lets_others_come_back() -> None:
    partition = booted(6, reopen=ReopenPolicy.EAGER)
    first, second = partition.open_windows(3), partition.open_windows(3)
    partition.retarget(3)
    first[0].client.dialer.say_bye()
    partition.settle()
    assert partition.with_status("active") == [6, 5, 4]
    assert len(second) == 3


def test_a_credit_reserved_by_an_open_that_is_undone_is_used_afterwards() -> None:
    partition = booted(2, reopen=ReopenPolicy.EAGER)
    windows = partition.open_windows(2)
    partition.hypervisor.enforces = True
    partition.retarget(1)
    partition.hypervisor.returns(HAllocateVasWindow, HcallCode.H_RESOURCE)
    partition.close(windows[0])
    assert partition.with_status("no_cred_close") == [2]
    partition.hypervisor.targets[CreditType.DEFAULT] = 2
    partition.retarget(2)
    assert partition.with_status("active") == [2]


def test_without_the_eager_policy_the_credit_stays_idle() -> None:
    partition = booted(2, reopen=ReopenPolicy.KERNEL)
    windows = partition.open_windows(2)
    partition.retarget(1)
    partition.close(windows[0])
    partition.advance(1_000)
    assert partition.with_status("no_cred_close") == [2]
    client = partition.process()
    descriptor = partition.device(client)
    failure = partition.fails(client, TxWinOpen(descriptor=descriptor), KernelReason.NO_CREDIT)
    assert isinstance(failure, OsFailure)
