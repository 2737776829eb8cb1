"""Requests and answers on an open session, and leaving it."""

from __future__ import annotations

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.dialer import HELLO_REPEAT_US
from protocol.effects import DIALLED, Dial, Hangup, Send
from protocol.exchange import OUTSTANDING_LIMIT, REPEAT_FIRST_US
from protocol.hcall_messages import QueryConfiguration
from protocol.listener import Listener
from protocol.refusals import RefusalCode
from protocol.session import (
    Answered,
    Called,
    Ended,
    Ending,
)
from protocol.session_messages import Beat, Bye, ByeDone, Hello, Refused
from protocol.wire import Envelope, refuse
from tests.protocol.bench import LINK, TERMS, Bench, raw
from tests.protocol.words import (
    ANSWER,
    QUERY,
    answer_everything,
    endings,
    hello,
    refusals_of,
)

# The exchange on a session.


def test_a_request_is_reported_once_and_its_answer_comes_back_once(bench: Bench) -> None:
    host = bench.connected()
    number = host.dialer.call(host.session, QUERY, bench.now_us)
    bench.settle()
    bench.pass_time(4 * REPEAT_FIRST_US)
    answer_everything(bench)
    bench.pass_time(10 * SECOND_US)
    assert [(event.number, event.body) for event in bench.of(Called)] == [(number, QUERY)]
    assert [(event.number, event.request, event.reply) for event in host.of(Answered)] == [(number, QUERY, ANSWER)]


def test_a_request_put_off_with_retry_is_repeated_with_its_number_and_carried_out_then(bench: Bench) -> None:
    host = bench.connected()
    host.dialer.call(host.session, QUERY, bench.now_us)
    bench.settle()
    (call,) = bench.of(Called)
    bench.listener.retry(call.session, call.number, after_ms=50)
    bench.settle()
    assert host.of(Answered) == []
    bench.pass_time(50 * MILLISECOND_US)
    assert [event.number for event in bench.of(Called)] == [1, 1]
    answer_everything(bench)
    assert [event.reply for event in host.of(Answered)] == [ANSWER]


def test_a_listener_that_puts_off_without_naming_a_time_causes_no_storm(bench: Bench) -> None:
    host = bench.connected()
    host.dialer.call(host.session, QUERY, bench.now_us)
    for _ in range(10):
        bench.pass_time(SECOND_US)
        for call in bench.of(Called):
            bench.listener.retry(call.session, call.number, after_ms=0)
    assert len(bench.of(Called)) <= 20


def test_a_definite_refusal_of_a_request_is_its_answer(bench: Bench) -> None:
    host = bench.connected()
    number = host.dialer.call(host.session, QUERY, bench.now_us)
    refusal = refuse(RefusalCode.BODY, "generation", "nothing")
    events = host.dialer.receive(Envelope(refusal, host.session.epoch, number), bench.now_us)
    assert events == [Answered(host.session, QUERY, number, refusal)]
    assert host.dialer.established


def test_a_refusal_without_a_number_does_not_end_an_open_session(bench: Bench) -> None:
    host = bench.connected()
    for code in RefusalCode:
        if code not in (RefusalCode.SESSION_DEAD, RefusalCode.NO_SESSION, RefusalCode.EPOCH):
            assert host.dialer.receive(Envelope(refuse(code, "", "")), bench.now_us) == []
    assert host.dialer.established


def test_more_requests_than_the_session_allows_are_refused_by_name(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    answers = []
    for number in range(1, OUTSTANDING_LIMIT + 2):
        answers += raw(bench, b"c1", QUERY, epoch=1, number=number)
    assert refusals_of(answers) == [RefusalCode.OUTSTANDING]
    assert answers[0].number == OUTSTANDING_LIMIT + 1
    assert len(bench.of(Called)) == OUTSTANDING_LIMIT


def test_a_request_without_a_number_is_refused_by_name(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    assert refusals_of(raw(bench, b"c1", QUERY, epoch=1)) == [RefusalCode.STALE_NUMBER]
    assert not bench.of(Called)


def test_a_number_below_what_was_acknowledged_is_dropped(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    raw(bench, b"c1", Beat(sequence=1), epoch=1, acked_below=10)
    assert raw(bench, b"c1", QUERY, epoch=1, number=9, acked_below=10) == []
    assert not bench.of(Called)


def test_a_burst_beyond_the_limit_is_answered_completely_and_in_portions(bench: Bench) -> None:
    host = bench.connected()
    for generation in range(200):
        host.dialer.call(host.session, QueryConfiguration(generation=generation), bench.now_us)
    answered = 0
    bench.settle()
    while len(host.of(Answered)) < 200:
        calls = bench.of(Called)[answered:]
        assert 0 < len(calls) <= OUTSTANDING_LIMIT
        answered += len(calls)
        for call in calls:
            bench.listener.answer(call.session, call.number, ANSWER)
        bench.settle()
    assert bench.listener.sessions["lp1"].callee.answers.keys() <= set(range(200 - OUTSTANDING_LIMIT, 201))
    assert not bench.arrived(Refused)


def test_the_listener_may_ask_too_and_the_dialer_answers(bench: Bench) -> None:
    host = bench.connected()
    number = bench.listener.call(bench.listener.sessions["lp1"], QUERY, bench.now_us)
    bench.settle()
    (call,) = host.of(Called)
    assert (call.number, call.body) == (number, QUERY)
    host.dialer.answer(call.session, call.number, ANSWER)
    bench.settle()
    assert [(event.number, event.reply) for event in bench.of(Answered)] == [(number, ANSWER)]


def test_what_the_listener_asked_of_a_lost_connection_is_asked_again_on_the_next_one(bench: Bench) -> None:
    host = bench.connected()
    bench.listener.call(bench.listener.sessions["lp1"], QUERY, bench.now_us)
    bench.lose()
    bench.reconnect(host)
    bench.pass_time(TERMS.beat_us)
    assert len(host.of(Called)) == 1


def test_a_refused_answer_of_the_dialer_settles_none_of_its_own_requests(bench: Bench) -> None:
    host = bench.connected()
    host.dialer.call(host.session, QUERY, bench.now_us)
    bench.lose()
    refusal = refuse(RefusalCode.BODY, "a field", "nothing")
    assert host.dialer.receive(Envelope(refusal, host.session.epoch, number=0), bench.now_us) == []
    assert host.session.caller.is_waiting


# Leaving.


def test_bye_ends_the_session_at_once_and_is_answered(bench: Bench) -> None:
    host = bench.connected()
    host.dialer.say_bye()
    bench.settle()
    assert len(bench.arrived(ByeDone)) == 1
    assert endings(bench) == [(1, Ending.BYE)]
    assert host.dialer.ended
    assert host.dialer.wake_us() is None
    assert not host.of(Ended), "nobody refused anything"


def test_a_bye_that_was_lost_is_said_again(bench: Bench) -> None:
    host = bench.connected()
    host.dialer.say_bye()
    bench.lose()
    bench.pass_time(2 * HELLO_REPEAT_US)
    assert endings(bench) == [(1, Ending.BYE)]
    assert host.dialer.ended


def test_a_bye_whose_answer_was_lost_ends_the_session_at_both_ends(bench: Bench) -> None:
    host = bench.connected()
    host.dialer.say_bye()
    bench.collect()
    bench.deliver(bench.packets.pop(0))
    bench.lose()
    bench.pass_time(2 * HELLO_REPEAT_US)
    assert endings(bench) == [(1, Ending.BYE)]
    assert host.dialer.ended


def test_a_bye_is_said_on_the_connection_that_follows_a_silent_one(bench: Bench) -> None:
    host = bench.connected()
    bench.lose()
    bench.now_us += TERMS.suspect_us
    host.dialer.say_bye()
    host.dialer.tick(bench.now_us)
    bench.reconnect(host)
    bench.pass_time(3 * HELLO_REPEAT_US)
    assert endings(bench) == [(1, Ending.BYE)]
    assert host.dialer.ended


def test_after_bye_nothing_more_is_accepted(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    assert [envelope.body for envelope in raw(bench, b"c1", Bye(), epoch=1)] == [ByeDone()]
    assert refusals_of(raw(bench, b"c1", QUERY, epoch=1, number=1)) == [RefusalCode.NO_SESSION]
    assert refusals_of(raw(bench, b"c1", hello(epoch=1, secret=b"s"))) == [RefusalCode.SESSION_DEAD]


def test_an_answer_that_is_ready_after_the_session_has_ended_goes_nowhere(bench: Bench) -> None:
    host = bench.connected()
    host.dialer.call(host.session, QUERY, bench.now_us)
    bench.settle()
    (call,) = bench.of(Called)
    raw(bench, host.peer or b"", Bye(), epoch=1)
    bench.listener.answer(call.session, call.number, ANSWER)
    bench.listener.retry(call.session, call.number, 0)
    assert bench.effects.take().transmissions == []


def test_hanging_up_closes_the_connection_and_ends_the_dialer(bench: Bench) -> None:
    host = bench.connected()
    host.effects.take()
    host.dialer.hang_up()
    assert host.effects.take().transmissions == [Hangup(LINK)]
    assert host.dialer.wake_us() is None
    host.dialer.tick(bench.now_us + 60 * SECOND_US)
    assert host.effects.take().transmissions == []


def test_start_over_dials_a_connection_of_its_own(bench: Bench) -> None:
    host = bench.connected()
    host.effects.take()
    host.dialer.start_over(b"second incarnation"[:16], bench.now_us)
    first, second = host.effects.take().transmissions
    assert isinstance(first, Dial)
    assert isinstance(second, Send)
    assert second.peer == DIALLED
    assert isinstance(second.envelope.body, Hello)
    assert (second.envelope.body.epoch, second.envelope.body.secret) == (0, b"")


def test_a_listener_without_sessions_wakes_nobody(bench: Bench) -> None:
    assert isinstance(bench.listener, Listener)
    assert bench.listener.wake_us() is None
