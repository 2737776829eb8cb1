"""Coming back: on another connection, after a restart of the listener, or not at all."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.dialer import HELLO_REPEAT_US
from protocol.refusals import RefusalCode
from protocol.session import (
    Answered,
    Called,
    Ended,
    Ending,
    Established,
    Moved,
    Noticed,
)
from protocol.session_messages import Beat, Hello
from protocol.wire import Envelope, refuse
from tests.protocol.bench import START_US, TERMS, Bench, raw
from tests.protocol.words import (
    ANSWER,
    CHANGE,
    LEASE_END_US,
    QUERY,
    answer_everything,
    endings,
    hello,
    refusals_of,
    restart,
    welcome_of,
)


def test_a_session_is_resumed_on_a_new_connection_with_its_epoch_and_secret(bench: Bench) -> None:
    welcome = welcome_of(raw(bench, b"c1", hello()))
    again = welcome_of(raw(bench, b"c2", hello(epoch=1, secret=welcome.secret)))
    assert (again.epoch, again.secret, again.resumed) == (1, welcome.secret, True)
    assert [event.step for event in bench.of(Moved)] == ["resumed"]
    assert bench.listener.sessions["lp1"].peer == b"c2"


@pytest.mark.parametrize(
    ("epoch", "secret", "incarnation", "name"),
    [
        (1, b"wrong" * 3 + b"!", b"i" * 16, "lp1"),
        (1, b"", b"i" * 16, "lp1"),
        (2, None, b"i" * 16, "lp1"),
        (1, None, b"j" * 16, "lp1"),
        (1, None, b"i" * 16, "lp2"),
    ],
    ids=["wrong secret", "no secret", "wrong epoch", "another incarnation", "another name"],
)
def test_what_is_not_the_live_sessions_own_is_told_that_its_session_is_dead(
    bench: Bench, epoch: int, secret: bytes | None, incarnation: bytes, name: str
) -> None:
    welcome = welcome_of(raw(bench, b"c1", hello()))
    answers = raw(bench, b"c2", hello(name, incarnation, epoch, welcome.secret if secret is None else secret))
    assert refusals_of(answers) == [RefusalCode.SESSION_DEAD]
    assert answers[0].epoch == epoch
    assert bench.listener.sessions["lp1"].peer == b"c1"


def test_a_dialer_whose_session_is_dead_ends_and_may_start_over_as_a_new_incarnation(bench: Bench) -> None:
    host = bench.connected()
    bench.listener_alone(LEASE_END_US)
    assert endings(bench) == [(1, Ending.LEASE)]
    bench.pass_time(2 * SECOND_US)
    assert [event.refusal.code for event in host.of(Ended)] == [RefusalCode.SESSION_DEAD]
    assert host.dialer.ended
    assert not host.session.alive
    host.dialer.start_over(b"second incarnation"[:16], bench.now_us)
    bench.settle()
    assert host.session.epoch == 2
    assert host.dialer.established


def test_an_old_word_that_a_session_is_dead_does_not_end_the_next_one(bench: Bench) -> None:
    host = bench.connected()
    dead = Envelope(refuse(RefusalCode.SESSION_DEAD, "a live session", "epoch 1"), epoch=1)
    host.events += host.dialer.receive(dead, bench.now_us)
    host.dialer.start_over(b"second incarnation"[:16], bench.now_us)
    assert host.dialer.receive(dead, bench.now_us) == []
    bench.settle()
    bench.pass_time(SECOND_US)
    assert not host.dialer.ended


def test_a_message_with_an_older_epoch_is_refused_by_number(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    bench.listener.unreachable(b"c1", bench.now_us)
    raw(bench, b"c2", hello(incarnation=b"j" * 16))
    answers = raw(bench, b"c2", QUERY, epoch=1, number=1)
    assert refusals_of(answers) == [RefusalCode.EPOCH]
    assert not bench.of(Called)
    assert raw(bench, b"c2", QUERY, epoch=2, number=1) == []
    assert [event.session.epoch for event in bench.of(Called)] == [2]


def test_what_arrives_with_another_epoch_renews_no_lease(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    bench.now_us += 5 * SECOND_US
    raw(bench, b"c1", Beat(sequence=1), epoch=9)
    assert bench.listener.sessions["lp1"].heard_us == START_US


def test_a_dialer_ignores_messages_of_another_epoch(bench: Bench) -> None:
    host = bench.connected()
    assert host.dialer.receive(Envelope(CHANGE, epoch=host.session.epoch + 1), bench.now_us) == []
    assert host.dialer.receive(Envelope(CHANGE, epoch=host.session.epoch), bench.now_us) == [
        Noticed(host.session, CHANGE)
    ]


def test_a_listener_that_was_restarted_knows_its_sessions_and_a_beat_is_enough_to_come_back(bench: Bench) -> None:
    host = bench.connected()
    number = host.dialer.call(host.session, QUERY, bench.now_us)
    bench.settle()
    restart(bench)
    bench.pass_time(TERMS.beat_us)
    assert host.dialer.established
    assert [event.resumed for event in host.of(Established)] == [False, True]
    assert [event.step for event in bench.of(Moved)] == ["resumed"]
    calls = bench.of(Called)
    assert [event.number for event in calls] == [number, number], "the first one was lost with the process"
    answer_everything(bench)
    assert [event.reply for event in host.of(Answered)] == [ANSWER]


def test_after_a_restart_every_session_gets_a_full_new_lease_before_it_is_judged(bench: Bench) -> None:
    host = bench.connected()
    bench.listener_alone(TERMS.lease_us - SECOND_US)
    restart(bench)
    restarted_us = bench.now_us
    bench.kill(host)
    session = bench.listener.sessions["lp1"]
    assert bench.listener.lease_end_us(session) == restarted_us + LEASE_END_US


def test_a_name_that_survived_a_restart_is_not_given_away_before_its_lease(bench: Bench) -> None:
    bench.connected()
    restart(bench)
    assert refusals_of(raw(bench, b"other", hello(incarnation=b"j" * 16))) == [RefusalCode.IN_USE]


def test_refusals_of_a_connection_without_a_session_are_not_answered_at_their_own_speed(bench: Bench) -> None:
    host = bench.connected()
    refusal = Envelope(refuse(RefusalCode.NO_SESSION, "HELLO", "beat"))
    bench.pass_time(HELLO_REPEAT_US)
    bench.seen.clear()
    for _ in range(50):
        host.dialer.receive(refusal, bench.now_us)
        bench.settle()
    assert len(bench.arrived(Hello)) == 1
    bench.pass_time(HELLO_REPEAT_US)
    assert host.dialer.established


def test_a_hello_repeated_on_its_connection_resumes_the_session_once(bench: Bench) -> None:
    first = welcome_of(raw(bench, b"c1", hello()))
    again = hello(epoch=first.epoch, secret=first.secret)
    for _ in range(3):
        assert welcome_of(raw(bench, b"c2", again)).resumed
    assert [event.step for event in bench.of(Moved)] == ["resumed"]
