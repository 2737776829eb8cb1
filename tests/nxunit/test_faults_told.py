"""How the hypervisor learns of translation faults: once per session, over cuts, fences and the unit's end."""

from __future__ import annotations

from nxunit.core import FAULTS_WAIT_US
from nxunit.faults import TELLING_LIMIT
from protocol import fabric_messages as fabric
from protocol.clock import MILLISECOND_US
from protocol.codes import ExitCode
from protocol.message import Message
from protocol.refusals import RefusalCode
from protocol.session import Called
from protocol.session_messages import Hello
from protocol.wire import refuse
from tests.nxunit.bench import FENCE_US, Bench, done, everything, nothing, stopped

FAULTS_WAIT_MS = FAULTS_WAIT_US // MILLISECOND_US


def test_every_held_fault_is_told_again_in_a_new_session(bench: Bench) -> None:
    bench.fault(1, 1)
    bench.fault(2, 1)
    bench.give_back(1, 1)
    bench.restart_hypervisor()
    bench.advance(5_000)
    assert bench.faults_told() == [(2, 1)]
    assert bench.answer(bench.give_back(2, 1)) == fabric.CreditReturned(window_id=2, number=1)
    assert bench.paste(2, 2) == [("accepted", 2)]


def test_a_resumed_session_is_not_told_again(bench: Bench) -> None:
    bench.fault(1, 1)
    bench.lose = everything
    bench.advance(10_000)
    bench.lose = nothing
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 1)]
    assert bench.faults_held == 1


def test_a_fault_during_a_cut_is_told_when_the_cut_is_over(bench: Bench) -> None:
    bench.lose = everything
    bench.advance(10_000)
    bench.fault(1, 1)
    bench.lose = nothing
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 1)]


def test_a_fault_between_two_sessions_is_told_once_in_the_next(bench: Bench) -> None:
    def first_hello(message: Message) -> bool:
        return isinstance(message, Hello) and not message.epoch

    bench.lose = first_hello
    bench.restart_hypervisor()
    bench.advance(6_000)
    assert bench.unit.dialer.session.epoch == 0
    bench.fault(1, 1)
    bench.lose = nothing
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 1)]


def test_a_return_that_overtakes_the_noting_of_its_fault_waits_for_it(bench: Bench) -> None:
    """A FaultRaised repeated after CreditReturned would be a fault that nobody holds and nobody ever returns."""
    bench.silent = True
    bench.fault(1, 1)
    closing, returned = bench.close(1), bench.give_back(1, 1)
    again = bench.give_back(1, 1)
    assert [bench.answer(number) for number in (closing, returned, again)] == [None] * 3
    bench.note_faults()
    assert bench.answer(returned) == bench.answer(again) == fabric.CreditReturned(window_id=1, number=1)
    assert isinstance(bench.answer(closing), fabric.ContextClosed)
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 1)]


def test_a_return_asked_in_a_session_that_died_is_asked_again(bench: Bench) -> None:
    bench.silent = True
    bench.fault(1, 1)
    bench.give_back(1, 1)
    bench.restart_hypervisor()
    bench.silent = False
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 1)]
    assert bench.faults_held == 1
    assert bench.answer(bench.give_back(1, 1)) == fabric.CreditReturned(window_id=1, number=1)
    assert bench.faults_held == 0


def test_a_fault_that_the_hypervisor_refuses_is_held_for_the_next_session(bench: Bench) -> None:
    bench.silent = True
    bench.fault(1, 1)
    (called,) = bench.told_of(fabric.FaultRaised)
    bench.hypervisor.answer(called.session, called.number, refuse(RefusalCode.BODY, "a window of this unit", "1"))
    bench.pump()
    assert "answer_contradicts" in [line.event for line in bench.log]
    assert bench.faults_held == 1
    bench.silent = False
    bench.restart_hypervisor()
    bench.advance(5_000)
    assert bench.faults_told() == [(1, 1)]


def test_many_faults_are_told_a_few_at_a_time() -> None:
    count = TELLING_LIMIT + 20
    bench = Bench(silent=True)
    for window_id in range(1, count + 1):
        bench.program(window_id)
        bench.fault(window_id, 1)
    assert len(bench.faults_told()) == TELLING_LIMIT
    assert bench.answer(bench.give_back(count, 1)) is not None, "a fault not told yet need not be told"
    bench.note_faults()
    assert bench.faults_told() == [(window_id, 1) for window_id in range(1, count)]
    bench.restart_hypervisor()
    bench.advance(5_000)
    assert bench.faults_told() == [(window_id, 1) for window_id in range(1, count)]


def test_a_fence_drops_what_is_held(bench: Bench) -> None:
    bench.fault(1, 1)
    bench.lose = everything
    bench.advance(FENCE_US // MILLISECOND_US + 1_000)
    assert bench.faults_held == 0
    bench.lose = nothing
    bench.advance(5_000)
    assert bench.faults_told() == []
    assert bench.answer(bench.give_back(1, 1)) == fabric.CreditReturned(window_id=1, number=1)


def test_a_fault_that_outlasts_the_fence_is_nobodys(bench: Bench) -> None:
    bench.paste(1, 1)
    job = bench.unit.take_job(bench.now_us)
    assert job is not None
    bench.now_us += FENCE_US + 1
    bench.unit.finish(job, stopped(job), bench.now_us)
    bench.pump()
    assert bench.faults_held == 0
    assert bench.unit.statistics().translation_faults == {}


def test_a_stopping_unit_lets_a_fault_be_fetched(bench: Bench) -> None:
    bench.fault(1, 1)
    bench.unit.stop(bench.now_us)
    bench.pump()
    bench.advance(FAULTS_WAIT_MS // 2)
    assert bench.hypervisor.sessions
    assert bench.answer(bench.give_back(1, 1)) == fabric.CreditReturned(window_id=1, number=1)
    bench.advance(200)
    assert not bench.hypervisor.sessions
    assert bench.exit is not None
    assert bench.exit.code is ExitCode.OK


def test_a_stopping_unit_does_not_wait_for_faults_for_ever(bench: Bench) -> None:
    bench.fault(1, 1)
    bench.paste(2, 1)
    bench.unit.stop(bench.now_us)
    bench.advance(FAULTS_WAIT_MS + 550)
    assert bench.work(stopped) == []
    bench.advance(FAULTS_WAIT_MS - 100)
    assert bench.hypervisor.sessions, "the time counts from the last request's end"
    assert bench.unit.wake_us() == bench.now_us + 100 * MILLISECOND_US, "between two beats"
    bench.advance(300)
    assert not bench.hypervisor.sessions
    assert bench.exit is not None
    assert bench.exit.code is ExitCode.UNFINISHED


def test_a_stopping_unit_without_a_hypervisor_does_not_wait_for_faults() -> None:
    bench = Bench()
    bench.program(1)
    bench.fault(1, 1)
    bench.restart_hypervisor()
    bench.lose = everything
    bench.advance(4_000)
    bench.unit.stop(bench.now_us)
    bench.advance(200)
    assert bench.exit is not None


def test_a_fault_not_told_yet_in_a_new_session_is_returned_at_once() -> None:
    """What the old session left unanswered is not waited for."""
    bench = Bench()
    for window_id in range(1, TELLING_LIMIT + 21):
        bench.program(window_id)
        bench.silent = window_id > 20
        bench.fault(window_id, 1)
    last = TELLING_LIMIT + 20
    assert (last, 1) in bench.faults_told()
    bench.restart_hypervisor()
    bench.advance(5_000)
    assert (last, 1) not in bench.faults_told()
    assert bench.answer(bench.give_back(last, 1)) == fabric.CreditReturned(window_id=last, number=1)


def test_other_answers_are_not_taken_for_that_of_a_fault(bench: Bench) -> None:
    bench.silent = True
    bench.fault(1, 1)
    bench.advance(1_000)
    assert sum(isinstance(event, Called) for event in bench.events) == 2, "limits and fault, each told once"
    assert bench.answer(bench.give_back(1, 1)) is None
    bench.note_faults()
    assert bench.faults_held == 0
    assert bench.work(done) == []
