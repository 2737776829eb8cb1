"""H_DEALLOCATE_VAS_WINDOW: the credit is free when the context is confirmed closed and drained, not before."""

from __future__ import annotations

import pytest

from protocol.codes import HcallCode, WindowStatus
from protocol.fabric_messages import CloseContext, ProgramContext
from protocol.hcall_messages import HcallStatus, HDeallocateVasWindow
from protocol.message import Message
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_lpar import modify


def deallocate(window_id: int) -> HDeallocateVasWindow:
    return HDeallocateVasWindow(window_id=window_id)


def test_a_deallocated_window_takes_no_paste_and_its_credit_is_free(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert not nx0.takes_paste(window)
    assert cluster.pool("lp1") == (40, 0)
    assert cluster.windows() == []


def test_a_window_that_was_never_bound_is_free_at_once(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    assert lp1.status_of(deallocate(window.window_id)) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 0)


def test_a_window_that_does_not_exist_is_a_wrong_parameter(cluster: Cluster) -> None:
    assert cluster.lpars["lp1"].deallocate(5) is HcallCode.H_PARAMETER


def test_a_window_can_be_deallocated_once(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window()
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert lp1.deallocate(window.window_id) is HcallCode.H_PARAMETER


def test_another_partitions_window_stays_open(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].open_window()
    assert cluster.lpars["lp2"].deallocate(window.window_id) is HcallCode.H_PARAMETER
    assert cluster.units["nx0"].takes_paste(window)


def test_a_window_of_an_earlier_incarnation_cannot_be_deallocated(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window()
    cluster.units["nx0"].mute = True
    lp1.die()
    lp1.start()
    assert lp1.deallocate(window.window_id) is HcallCode.H_PARAMETER
    assert cluster.pool("lp1") == (40, 1)


@fidelity(
    "1 hcalls",
    "H_DEALLOCATE_VAS_WINDOW is busy until every request of the window is over, faulted ones included.",
    source="K:vas.c",
)
def test_requests_in_flight_make_deallocate_long_busy_for_a_millisecond(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 3
    asked_us = cluster.now_us
    assert lp1.status_of(deallocate(window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_1_MSEC
    assert cluster.now_us == asked_us
    assert not nx0.takes_paste(window)
    assert lp1.status_of(deallocate(window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    assert cluster.pool("lp1") == (40, 1)


def test_a_silent_unit_makes_deallocate_long_busy_for_ten_milliseconds(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.mute = True
    assert lp1.status_of(deallocate(window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    assert cluster.pool("lp1") == (40, 1)


def test_the_credit_is_in_use_until_the_kernel_has_its_answer(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 1
    lp1.status_of(deallocate(window.window_id))
    nx0.complete(window.window_id)
    cluster.pump()
    row = cluster.windows()[0]
    assert (row.state, row.status) == ("quiesced", WindowStatus.CLOSED)
    assert cluster.pool("lp1") == (40, 1)
    assert lp1.status_of(deallocate(window.window_id)) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 0)


@fidelity(
    "1 hcalls",
    "Whether requests in flight are completed or killed when their window is deallocated is not public.",
    source="ML:0bab8a44ac",
    differs="They complete, and the hcall stays long-busy until then.",
)
def test_a_deallocate_that_waits_is_answered_when_the_last_request_completes(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 1
    lp1.status_of(deallocate(window.window_id))
    number = lp1.send(deallocate(window.window_id))
    cluster.pump()
    nx0.complete(window.window_id)
    cluster.pump()
    assert lp1.answers[number] == HcallStatus(code=HcallCode.H_SUCCESS)


def test_a_window_that_is_being_bound_is_busy(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    lp1.send(modify(window.window_id))
    assert lp1.status_of(deallocate(window.window_id)) is HcallCode.H_BUSY


def test_an_open_partition_at_its_target_waits_for_the_unit_to_drain(cluster: Cluster) -> None:
    lp3, nx0 = cluster.lpars["lp3"], cluster.units["nx0"]
    windows = [lp3.open_window(chip=0) for _ in range(16)]
    nx0.contexts[windows[0].window_id].in_flight = 1
    lp3.status_of(deallocate(windows[0].window_id))
    assert lp3.allocate().code is HcallCode.H_RESOURCE
    nx0.complete(windows[0].window_id)
    assert lp3.deallocate(windows[0].window_id) is HcallCode.H_SUCCESS
    assert lp3.allocate().code is HcallCode.H_SUCCESS


class LosesFirst:
    """Loses the first `count` messages of a type to a unit."""

    def __init__(self, kind: type[Message], count: int = 1) -> None:
        self.kind = kind
        self.left = count

    def __call__(self, _name: str, body: Message) -> bool:
        if isinstance(body, self.kind) and self.left:
            self.left -= 1
            return True
        return False


def test_no_late_programming_reopens_a_window_that_was_deallocated(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    cluster.loses = LosesFirst(ProgramContext)
    assert lp1.status_of(modify(window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    cluster.advance(5_000_000)
    assert not nx0.takes_paste(window)
    assert nx0.contexts == {}


def test_no_late_programming_survives_the_death_of_the_partition(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    lp1.status_of(modify(window.window_id))
    lp1.die()
    cluster.advance(11_000_000)
    nx0.mute = False
    nx0.speak()
    cluster.advance(5_000_000)
    assert nx0.contexts == {}
    assert cluster.windows() == []


def test_a_close_that_was_lost_is_repeated(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    cluster.loses = LosesFirst(CloseContext)
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert nx0.contexts == {}


def test_a_rebinding_that_the_unit_refused_still_has_to_be_closed(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 1
    lp1.modify(window.window_id, 88)
    nx0.complete(window.window_id)
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert nx0.contexts == {}


@pytest.mark.parametrize("lost", ["answer", "request"])
def test_a_lost_message_frees_no_credit_twice(cluster: Cluster, lost: str) -> None:
    lp1 = cluster.lpars["lp1"]
    windows = [lp1.open_window() for _ in range(2)]
    cluster.loses = LosesFirst(HcallStatus if lost == "answer" else HDeallocateVasWindow)
    assert lp1.deallocate(windows[0].window_id) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 1)
