"""An NX unit answers what it was not asked: nothing changes by that, and it is asked again (design.md, "Wire")."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.effects import LogLine
from protocol.fabric_answers import ANSWERS
from protocol.fabric_messages import (
    CloseContext,
    ContextClosed,
    ContextProgrammed,
    Contexts,
    ContextSummary,
    CreditReturned,
    ListContexts,
)
from protocol.hcall_messages import HDeallocateVasWindow
from protocol.link import FABRIC
from protocol.message import Reply, Request
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.wire import refuse
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_lpar import modify
from tests.hypervisor.fake_unit import FakeUnit

LEASE_US = 10_100_000
REFUSED = refuse(RefusalCode.UNKNOWN_TYPE, "a message of this link", "something else")
Twist = Callable[[Reply], Reply | Refused]


def another_window(reply: Reply) -> Reply:
    """The answer that a neighbouring window would have got."""
    assert isinstance(reply, ContextClosed | ContextProgrammed | CreditReturned)
    return reply.model_copy(update={"window_id": reply.window_id + 1})


CLOSE_TWISTS: dict[str, Twist] = {
    "another window": another_window,
    "the answer to a program": lambda _: ContextProgrammed(window_id=1, accepted=True),
    "the answer to a returned credit": lambda _: CreditReturned(window_id=1, number=0),
    "an empty list": lambda _: Contexts(contexts=()),
    "a refusal": lambda _: REFUSED,
}


def logged(cluster: Cluster) -> list[LogLine]:
    return [line for line in cluster.log if line.event == "answer_contradicts"]


def asked(unit: FakeUnit, kind: type[object]) -> int:
    return sum(isinstance(body, kind) for body in unit.asked)


def honest(reply: Reply) -> Reply:
    return reply


@pytest.mark.parametrize("twist", CLOSE_TWISTS.values(), ids=CLOSE_TWISTS)
def test_a_close_that_is_answered_by_something_else_frees_no_credit(cluster: Cluster, twist: Twist) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window, neighbour = lp1.open_window(chip=0), lp1.open_window(chip=0)
    assert (window.window_id, neighbour.window_id) == (1, 2)
    nx0.twists = twist
    assert lp1.status_of(HDeallocateVasWindow(window_id=1)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    assert cluster.pool("lp1") == (40, 2)
    assert [row.state for row in cluster.windows()] == ["closing", "open"]
    assert nx0.takes_paste(neighbour)
    nx0.twists = honest
    assert lp1.deallocate(1) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 1)
    assert nx0.takes_paste(neighbour)


def test_a_wrong_answer_about_a_window_that_is_closing_too_does_not_end_that_close(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    first, second = lp1.open_window(chip=0), lp1.open_window(chip=0)
    nx0.contexts[second.window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=second.window_id))
    nx0.twists = another_window
    lp1.status_of(HDeallocateVasWindow(window_id=first.window_id))
    assert [row.state for row in cluster.windows()] == ["closing", "closing"]
    assert lp1.status_of(HDeallocateVasWindow(window_id=second.window_id)).is_busy
    nx0.twists = honest
    nx0.complete(second.window_id)
    assert [lp1.deallocate(window.window_id) for window in (first, second)] == [HcallCode.H_SUCCESS] * 2


def test_the_windows_of_a_dead_partition_are_closed_again_until_the_unit_answers_that(cluster: Cluster) -> None:
    """Nobody deallocates them, so that only the hypervisor itself can ask again."""
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    lp1.open_window(chip=0)
    nx0.twists = another_window
    lp1.die()
    cluster.advance(LEASE_US + 20 * SECOND_US)
    assert cluster.pool("lp1") == (40, 1)
    assert 18 <= asked(nx0, CloseContext) <= 22, "about once a second"
    assert {line.facts["why"] for line in logged(cluster)} == {"window_id 2, asked for 1"}
    nx0.twists = honest
    cluster.advance(SECOND_US)
    assert cluster.pool("lp1") == (40, 0)
    assert nx0.contexts == {}


@pytest.mark.parametrize(
    "twist",
    [another_window, lambda _: ContextClosed(window_id=1, bytes_processed=0), lambda _: REFUSED],
    ids=["another window", "closed", "a refusal"],
)
def test_a_program_that_is_answered_by_something_else_opens_no_window(cluster: Cluster, twist: Twist) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate(chip=0)
    nx0.twists = twist
    lp1.status_of(modify(window.window_id))
    assert [row.state for row in cluster.windows()] == ["programming"]
    nx0.twists = honest
    assert lp1.modify(window.window_id) is HcallCode.H_SUCCESS
    assert nx0.takes_paste(window)


def test_a_window_is_asked_nothing_else_while_its_wrong_answer_stands(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate(chip=0)
    nx0.twists = another_window
    lp1.status_of(modify(window.window_id))
    due_us = cluster.core.units.by_name["nx0"].doubted.wake_us()
    assert due_us is not None
    assert cluster.now_us < due_us <= cluster.now_us + SECOND_US
    assert cluster.core.units.wake_us() == due_us
    nx0.twists = honest
    before = len(nx0.asked)
    lp1.status_of(HDeallocateVasWindow(window_id=window.window_id))
    assert nx0.asked[before:] == []
    cluster.advance(SECOND_US)
    assert nx0.asked[before:] == [CloseContext(window_id=window.window_id)]
    assert cluster.windows()[0].state == "quiesced"


@pytest.mark.parametrize(
    "twist",
    [another_window, lambda reply: reply.model_copy(update={"number": 9}), lambda _: REFUSED],
    ids=["another window", "another number", "a refusal"],
)
def test_a_credit_that_was_not_said_to_be_returned_is_asked_for_again(cluster: Cluster, twist: Twist) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window(chip=0)
    number = nx0.fault(window.window_id)
    cluster.pump()
    nx0.twists = lambda reply: twist(reply) if isinstance(reply, CreditReturned) else reply
    fault = lp1.fetch(window.window_id)
    assert (fault.code, fault.number) == (HcallCode.H_SUCCESS, number)
    assert str(cluster.core.faults.states()) == "Counter({<FaultState.FETCHED: 'fetched'>: 1})"
    nx0.twists = honest
    cluster.advance(SECOND_US)
    assert str(cluster.core.faults.states()) == "Counter({<FaultState.SETTLED: 'settled'>: 1})"
    assert cluster.core.units.by_name["nx0"].returning == 0


def listed(*window_ids: int) -> Contexts:
    return Contexts(
        contexts=tuple(ContextSummary(window_id=known, token=bytes(16), process_id=1) for known in window_ids)
    )


@pytest.mark.parametrize(
    "twist",
    [lambda _: listed(2, 1), lambda _: listed(1, 1), lambda _: listed(0), lambda _: REFUSED],
    ids=["falling", "twice", "not above", "a refusal"],
)
def test_a_list_in_disorder_is_asked_for_again_and_nothing_is_done_on_its_word(cluster: Cluster, twist: Twist) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    windows = [lp1.open_window(chip=0) for _ in range(2)]
    nx0.twists = twist
    before = len(nx0.asked)
    cluster.restart()
    cluster.advance(3_500_000)
    assert {type(body) for body in nx0.asked[before:]} == {ListContexts}
    assert 3 <= asked(nx0, ListContexts) - 1 <= 4
    assert cluster.unit_status("nx0").state == "starting"
    assert all(nx0.takes_paste(window) for window in windows)
    nx0.twists = honest
    cluster.advance(SECOND_US)
    assert cluster.unit_status("nx0").state == "running"
    assert all(nx0.takes_paste(window) for window in windows)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_list_that_leaves_a_closing_window_out_frees_no_credit(cluster: Cluster, restarted: bool) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window(chip=0)
    nx0.contexts[window.window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window.window_id))
    nx0.twists = lambda reply: Contexts(contexts=()) if isinstance(reply, Contexts) else reply
    if restarted:
        cluster.restart()
    else:
        nx0.session_ended(refuse(RefusalCode.SESSION_DEAD, "a live session", "a dead one"))
    cluster.advance(5 * SECOND_US)
    assert cluster.unit_status("nx0").state == "running"
    assert cluster.windows()[0].state == "closing"
    assert cluster.pool("lp1") == (40, 1)
    nx0.complete(window.window_id)
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS


def test_every_request_of_the_link_has_one_answer() -> None:
    requests = {kind for kind in (*FABRIC.up.messages, *FABRIC.down.messages) if issubclass(kind, Request)}
    assert set(ANSWERS) == requests


def test_a_unit_that_lists_more_contexts_than_it_can_hold_is_not_listened_to_without_end() -> None:
    cluster = Cluster()
    unit = cluster.units["nx0"]
    unit.limit = 100

    def one_more_page(reply: Reply) -> Reply:
        if not isinstance(reply, Contexts):
            return reply
        first = 1 + 60 * asked(unit, ListContexts)
        rows = (ContextSummary(window_id=first + at, token=bytes(16), process_id=1) for at in range(60))
        return Contexts(contexts=tuple(rows), more=True)

    unit.twists = one_more_page
    cluster.start()
    cluster.advance(5 * SECOND_US)
    assert 2 < asked(unit, ListContexts) < 20, "two pages a second"
    assert len(cluster.core.units.by_name["nx0"].listed) <= 160
    assert "the 100 it can hold" in str(logged(cluster)[0].facts["why"])
    unit.twists = lambda reply: reply
    cluster.advance(5 * SECOND_US)
    assert cluster.core.units.by_name["nx0"].reconciled
