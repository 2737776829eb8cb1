"""Windows that are reopened at an NX unit that does not answer, and what was allocated there (lpar/walk.py)."""

from __future__ import annotations

import pytest

from protocol.codes import OUT_OF_REACH, HcallCode
from protocol.device_messages import CloseDescriptor, Done, TxWinOpen, WindowOpened
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow
from protocol.system import ReopenPolicy
from tests.lpar.client_process import Client
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted

POLICIES = pytest.mark.parametrize("reopen", list(ReopenPolicy))


def with_closed_windows(reopen: ReopenPolicy, count: int = 3) -> Partition:
    """All but one of `count` windows have lost their credit."""
    partition = booted(count, reopen=reopen)
    partition.hypervisor.enforces = True
    partition.open_windows(count)
    partition.retarget(1)
    partition.hypervisor.made.clear()
    return partition


def keeps_what_is_given_back(partition: Partition) -> None:
    """The next deallocation has no answer until `release`."""
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)


def settled(partition: Partition) -> tuple[int, int, int]:
    """Closed windows, windows under way, and what the hypervisor holds beside the active ones."""
    pool = partition.pool()
    return pool.nr_close, pool.progress, len(partition.hypervisor.windows) - pool.active


@POLICIES
def test_a_window_whose_unit_is_out_of_reach_is_reopened_elsewhere(reopen: ReopenPolicy) -> None:
    partition = with_closed_windows(reopen)
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH)
    report = partition.retarget(4)
    assert report.accepted
    assert partition.order_of(report.reopened) == [3, 2]
    assert partition.credits() == (4, 4), "what was allocated first counts until it is back"
    assert partition.pool().progress == 1
    partition.hypervisor.release()
    partition.settle()
    assert partition.credits() == (4, 3)
    assert settled(partition) == (0, 0, 0)
    assert partition.interrupt_lines() == sorted(partition.hypervisor.windows)


@POLICIES
def test_without_a_credit_to_spare_the_walk_ends_and_the_rest_comes_back_with_the_credit(reopen: ReopenPolicy) -> None:
    partition = with_closed_windows(reopen)
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH)
    report = partition.retarget(3)
    assert (report.accepted, partition.order_of(report.reopened)) == (False, [3])
    assert "H_RESOURCE" in report.error
    assert partition.with_status("no_cred_close") == [2]
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("active") == [3, 2, 1]
    assert partition.credits() == (3, 3)
    assert settled(partition) == (0, 0, 0)


@POLICIES
def test_a_window_that_finds_no_unit_in_reach_stays_closed_while_the_walk_goes_on(reopen: ReopenPolicy) -> None:
    partition = with_closed_windows(reopen)
    keeps_what_is_given_back(partition)
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH, OUT_OF_REACH)
    report = partition.retarget(6)
    assert (report.accepted, partition.order_of(report.reopened)) == (False, [2])
    assert "H_LONG_BUSY_ORDER_100_MSEC" in report.error
    assert partition.with_status("no_cred_close") == [3]
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("active") == [3, 2, 1]
    assert settled(partition) == (0, 0, 0)


def test_each_window_of_a_walk_is_placed_again_once() -> None:
    partition = with_closed_windows(ReopenPolicy.KERNEL)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH, None, OUT_OF_REACH)
    report = partition.retarget(6)
    assert (report.accepted, partition.order_of(report.reopened)) == (True, [3, 2])
    assert settled(partition) == (0, 0, 0)


def test_what_comes_back_late_has_the_room_that_there_is_by_then() -> None:
    partition = with_closed_windows(ReopenPolicy.KERNEL)
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH)
    partition.retarget(3)
    partition.retarget(2)
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("no_cred_close") == [2]
    assert partition.credits() == (2, 3)


def test_a_window_closed_by_its_user_meanwhile_is_not_reopened() -> None:
    partition = booted(3)
    partition.hypervisor.enforces = True
    windows = partition.open_windows(3)
    partition.retarget(1)
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH)
    partition.retarget(3)
    partition.close(windows[1])
    partition.hypervisor.release()
    partition.settle()
    assert (partition.with_status("active"), partition.credits()) == ([3, 1], (3, 2))
    assert settled(partition) == (0, 0, 0)


def test_after_a_migration_the_rest_comes_back_too_and_not_in_the_middle_of_the_next() -> None:
    partition = booted(3)
    partition.hypervisor.enforces = True
    partition.open_windows(3)
    partition.core.suspend(partition.now_us)
    partition.settle()
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH)
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.with_status("migrate_close") == [1]
    partition.core.suspend(partition.now_us)
    partition.settle()
    partition.hypervisor.release()
    partition.advance(20)
    assert partition.with_status("migrate_close") == [3, 2, 1]
    assert not partition.hypervisor.windows
    partition.core.resume(partition.now_us)
    partition.settle()
    assert partition.with_status("active") == [3, 2, 1]
    assert settled(partition) == (0, 0, 0)


def test_a_shutdown_waits_for_a_window_that_is_being_given_back() -> None:
    partition = booted(3)
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH)
    partition.open_window(partition.process())
    partition.core.stop(partition.now_us)
    partition.settle()
    assert partition.core.effects.exit is None
    assert not partition.core.bye_said
    partition.hypervisor.release()
    partition.settle()
    assert not partition.hypervisor.windows
    assert partition.core.bye_said


def test_a_window_given_back_makes_room_for_one_that_was_closed() -> None:
    """`reopen = "eager"`, and at once: not with the next try a second after a failure."""
    partition = booted(5, reopen=ReopenPolicy.EAGER)
    partition.hypervisor.enforces = True
    partition.open_windows(3)
    keeps_what_is_given_back(partition)
    partition.hypervisor.returns(HModifyVasWindow, OUT_OF_REACH)
    partition.open_window(partition.process())
    partition.retarget(3)
    partition.retarget(4)
    assert partition.with_status("no_cred_close") == [4]
    partition.hypervisor.release()
    partition.settle()
    assert partition.with_status("no_cred_close") == []


# An open whose allocation has no answer.


def opening(partition: Partition) -> tuple[Client, int]:
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    client = partition.process()
    return client, partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))


def test_a_close_goes_before_an_open_whose_allocation_is_put_off() -> None:
    partition = booted(3)
    (window,) = partition.open_windows(1)
    client, number = opening(partition)
    closing = partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
    partition.advance(99)
    assert closing not in window.client.answers, "the open has the mutex"
    partition.advance(2)
    partition.answer(window.client, closing, Done)
    assert partition.credits() == (3, 1)
    partition.hypervisor.release()
    partition.settle()
    partition.answer(client, number, WindowOpened)
    assert partition.credits() == (3, 1)
    assert settled(partition) == (0, 0, 0)


@pytest.mark.parametrize("answered_ms", [50, 500, 20_000])
@pytest.mark.parametrize("code", [HcallCode.H_RESOURCE, HcallCode.H_LONG_BUSY_ORDER_10_MSEC, None])
def test_an_allocation_that_was_put_off_leaves_the_counters_as_it_ends(
    answered_ms: int, code: HcallCode | None
) -> None:
    partition = booted(3)
    client, number = opening(partition)
    partition.advance(answered_ms)
    partition.hypervisor.release(code)
    partition.advance(20)
    opened = isinstance(client.answers[number], WindowOpened)
    assert opened is (answered_ms < 10_000 and code is not HcallCode.H_RESOURCE)
    assert partition.credits() == (3, int(opened))
    assert settled(partition) == (0, 0, 0)
    partition.open_window(partition.process())
    assert partition.core.kernel.driver.operations == 0


def test_an_allocation_that_stays_busy_lets_others_have_the_mutex_and_ends_at_the_deadline() -> None:
    partition = booted(3)
    partition.hypervisor.always[HAllocateVasWindow] = HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    client = partition.process()
    partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.advance(150)
    assert (partition.core.kernel.driver.mutex.holder, partition.pool().progress) == (None, 1)
    partition.advance(10_000)
    assert partition.credits() == (3, 0)
    assert settled(partition) == (0, 0, 0)


def test_a_migration_waits_for_an_allocation_that_is_put_off() -> None:
    partition = booted(3)
    client, number = opening(partition)
    partition.advance(150)
    partition.core.suspend(partition.now_us)
    partition.advance(1_000)
    assert not partition.logged("migration"), "a window may be granted yet"
    partition.hypervisor.release()
    partition.advance(20)
    assert number in client.answers
    assert not partition.hypervisor.windows
    assert len(partition.logged("migration")) == 1
    assert partition.credits() == (3, 0)
