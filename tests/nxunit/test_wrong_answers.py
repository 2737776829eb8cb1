"""The hypervisor answers what a unit did not tell it: the unit tells it again, and nothing is taken as noted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nxunit.core import FABRIC_LINK
from protocol import fabric_messages as fabric
from protocol.asked_again import AGAIN_US
from protocol.effects import DIALLED
from protocol.message import Message, Reply, Request
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.wire import Envelope, refuse
from tests.nxunit.bench import Bench, everything, nothing

WRONG: list[Reply | Refused] = [
    refuse(RefusalCode.BODY, "a window of this unit", "another"),
    fabric.UnitNoted(),
]


def answer_once(bench: Bench, kind: type[Request], reply: Message) -> None:
    """The hypervisor answers the newest request of that kind."""
    called = bench.told_of(kind)[-1]
    bench.hypervisor.answer(called.session, called.number, reply)
    bench.pump()


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.program(1)
    return bench


@pytest.mark.parametrize("wrong", WRONG, ids=["a refusal", "the answer to its limits"])
def test_a_fault_is_told_again_until_it_is_noted(bench: Bench, wrong: Reply | Refused) -> None:
    bench.silent = True
    bench.fault(1, 7)
    for times in (1, 2, 3):
        assert bench.faults_told() == [(1, 7)] * times
        answer_once(bench, fabric.FaultRaised, wrong)
        bench.advance(900)
        assert bench.faults_told() == [(1, 7)] * times, "not at the speed of the answers"
        bench.advance(200)
    answer_once(bench, fabric.FaultRaised, fabric.FaultNoted())
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 7)] * 4
    assert bench.answer(bench.give_back(1, 7)) == fabric.CreditReturned(window_id=1, number=7)


def test_a_fault_whose_credit_was_returned_meanwhile_is_not_told_again(bench: Bench) -> None:
    bench.silent = True
    bench.fault(1, 7)
    answer_once(bench, fabric.FaultRaised, fabric.UnitNoted())
    bench.give_back(1, 7)
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 7)]
    assert bench.paste(1, 8) == [("accepted", 8)]


def test_limits_that_were_not_noted_are_told_again() -> None:
    bench = Bench()
    told = bench.told_of(fabric.UnitReady)
    bench.ready_answer = fabric.FaultNoted()
    bench.restart_hypervisor()
    bench.advance(5_000)
    assert len(bench.told_of(fabric.UnitReady)) >= len(told) + 3
    bench.ready_answer = fabric.UnitNoted()
    bench.advance(2_000)
    told = bench.told_of(fabric.UnitReady)
    bench.advance(5_000)
    assert bench.told_of(fabric.UnitReady) == told
    assert {call.body for call in told} == {told[0].body}


def session_dies(bench: Bench) -> None:
    """The hypervisor has forgotten the unit's session, says so, and there is another one at once."""
    bench.restart_hypervisor()
    epoch = bench.unit.dialer.session.epoch
    dead = Envelope(refuse(RefusalCode.SESSION_DEAD, "a live session", f"epoch {epoch}"), epoch=epoch)
    bench.unit.receive(FABRIC_LINK, DIALLED, dead, bench.now_us)
    bench.pump()


def test_a_fault_that_a_dead_session_answered_wrongly_is_not_told_twice_in_the_next(bench: Bench) -> None:
    bench.silent = True
    bench.fault(1, 7)
    answer_once(bench, fabric.FaultRaised, fabric.UnitNoted())
    bench.silent = False
    session_dies(bench)
    assert bench.faults_told() == [(1, 7)], "before it would have been told again in the old one"
    bench.advance(8_000)
    assert bench.faults_told() == [(1, 7)]


def test_limits_that_a_dead_session_answered_wrongly_are_not_told_twice_in_the_next() -> None:
    bench = Bench(ready_answer=fabric.FaultNoted())
    bench.ready_answer = fabric.UnitNoted()
    session_dies(bench)
    bench.advance(8_000)
    assert len(bench.told_of(fabric.UnitReady)) == 1


def test_limits_that_a_dead_session_never_answered_are_told_in_the_next() -> None:
    bench = Bench(lose=lambda message: isinstance(message, fabric.UnitNoted))
    bench.lose = nothing
    session_dies(bench)
    assert len(bench.told_of(fabric.UnitReady)) == 1


def test_limits_are_told_again_when_the_session_is_taken_up_again(bench: Bench) -> None:
    """A hypervisor that was killed remembers the session, but not what the unit can hold; a noted fault it does."""
    bench.fault(1, 7)
    bench.lose = everything
    bench.advance(10_000)
    bench.lose = nothing
    bench.advance(5_000)
    assert len(bench.told_of(fabric.UnitReady)) == 2
    assert bench.faults_told() == [(1, 7)]


Asked = Callable[[Bench], int]


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda bench: bench.close(9), fabric.ContextClosed(window_id=9, bytes_processed=0)),
        (lambda bench: bench.close(1), fabric.ContextClosed(window_id=1, bytes_processed=0)),
        (lambda bench: bench.give_back(1, 7), fabric.CreditReturned(window_id=1, number=7)),
        (lambda bench: bench.give_back(9, 8), fabric.CreditReturned(window_id=9, number=8)),
    ],
    ids=["close of nothing", "close", "return", "return of nothing"],
)
def test_each_answer_of_the_unit_names_what_it_was_asked_for(bench: Bench, ask: Asked, answer: Message) -> None:
    assert bench.answer(ask(bench)) == answer


def test_a_cut_between_wrong_answer_and_the_next_telling_delays_it(bench: Bench) -> None:
    bench.silent = True
    bench.fault(1, 7)
    answer_once(bench, fabric.FaultRaised, fabric.UnitNoted())
    bench.silent = False
    bench.lose = everything
    bench.advance(8_000)
    bench.lose = nothing
    bench.advance(6_000)
    assert bench.faults_told() == [(1, 7), (1, 7)]
    assert bench.faults_held == 1


def test_the_unit_wakes_when_it_is_to_tell_again(bench: Bench) -> None:
    """Between two beats, not with the next one."""
    bench.silent = True
    bench.fault(1, 7)
    bench.advance(300)
    answer_once(bench, fabric.FaultRaised, fabric.UnitNoted())
    due_us = bench.now_us + AGAIN_US
    wakes: set[int | None] = set()
    for _ in range(9):
        bench.advance(100)
        wakes.add(bench.unit.wake_us())
    assert due_us in wakes
