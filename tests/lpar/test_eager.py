"""`reopen = "eager"`: what the kernel's rules leave closed comes back as soon as a credit is free."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import CloseDescriptor, Done, OsFailure, TxWinOpen
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow, HQueryVasCapabilities
from protocol.system import ReopenPolicy
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, booted


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


def test_a_close_returns_when_the_window_that_it_made_room_for_is_back() -> None:
    partition = booted(4, reopen=ReopenPolicy.EAGER)
    windows = partition.open_windows(4)
    partition.retarget(3)
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    numbers = [partition.call(window.client, CloseDescriptor(descriptor=window.descriptor)) for window in windows[:2]]
    partition.settle()
    assert partition.with_status("active") == [3, 2], "the second close waits for the walk that the first has begun"
    assert [number in windows[0].client.answers for number in numbers] == [False, False]
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("active") == [4, 3]
    for window, number in zip(windows[:2], numbers, strict=True):
        partition.answer(window.client, number, Done)


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
    partition = booted(3, reopen=ReopenPolicy.EAGER)
    partition.hypervisor.enforces = True
    windows = partition.open_windows(2)
    client = partition.process()
    partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
    number = partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    assert partition.retarget(1).closed == (2,)
    partition.close(windows[0])
    assert partition.with_status("no_cred_close") == [2]
    assert partition.core.statistics().hcalls[HcallCode.H_RESOURCE] == 1
    partition.hypervisor.release()
    partition.settle()
    assert partition.answer(client, number, OsFailure).reason is KernelReason.CLOSED_WINDOWS
    assert partition.with_status("active") == [2]


def test_after_a_resume_windows_without_credit_come_back_too() -> None:
    partition = booted(4, reopen=ReopenPolicy.EAGER)
    partition.open_windows(4)
    partition.retarget(2)
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.targets[CreditType.DEFAULT] = 3
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.with_status("active") == [3, 2, 1]
    assert partition.with_status("no_cred_close") == [4]


def test_nothing_comes_back_while_a_suspend_is_under_way() -> None:
    partition = booted(3, reopen=ReopenPolicy.EAGER)
    windows = partition.open_windows(3)
    partition.retarget(2)
    partition.hypervisor.returns(HQueryVasCapabilities, Silence.HOLD)
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.made.clear()
    partition.close(windows[0])
    assert partition.hypervisor.made == [HDeallocateVasWindow(window_id=windows[0].window_id)]
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("no_cred_close|migrate_close") == [3]
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.with_status("active") == [3, 2]


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


def test_what_the_hypervisor_refused_is_tried_again_every_second() -> None:
    partition = booted(1, qos=3, reopen=ReopenPolicy.EAGER)
    partition.open_windows(3, qos=True)
    partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "1"), Done)
    partition.hypervisor.enforces = True
    partition.hypervisor.targets[CreditType.QOS] = 1
    failure = partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "3"), OsFailure)
    assert failure.hcall is HcallCode.H_RESOURCE
    partition.hypervisor.targets[CreditType.QOS] = 3
    partition.advance(1_000)
    assert partition.with_status("active") == [3, 2, 1]


def test_what_could_not_come_back_after_a_close_is_tried_again_a_second_later() -> None:
    partition = booted(3, reopen=ReopenPolicy.EAGER)
    windows = partition.open_windows(3)
    partition.retarget(2)
    partition.hypervisor.returns(HAllocateVasWindow, HcallCode.H_CONSTRAINED)
    partition.close(windows[0])
    assert partition.with_status("no_cred_close") == [3]
    partition.advance(1_000)
    assert partition.with_status("active") == [3, 2]
