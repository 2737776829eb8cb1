"""Silence: who suspects whom when, and when exactly a lease ends."""

from __future__ import annotations

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.dialer import HELLO_REPEAT_US
from protocol.effects import Send
from protocol.refusals import RefusalCode
from protocol.session import (
    Called,
    Closed,
    Ended,
    Ending,
    Established,
    Moved,
    Noticed,
)
from protocol.session_messages import Beat, BeatEcho, Probe
from protocol.wire import Envelope
from tests.protocol.bench import START_US, TERMS, Bench, Host, raw
from tests.protocol.words import (
    CHANGE,
    LEASE_END_US,
    QUERY,
    hello,
    refusals_of,
    welcome_of,
)


def test_a_beat_is_echoed_with_the_generation_the_partition_should_be_at(bench: Bench) -> None:
    bench.listener.generation = lambda _session: 12
    host = bench.connected()
    bench.pass_time(TERMS.beat_us)
    assert [event.body for event in host.of(Noticed)][-1] == BeatEcho(sequence=2, generation=12)


def test_a_beating_session_is_never_suspected(bench: Bench) -> None:
    host = bench.connected()
    bench.pass_time(600 * SECOND_US)
    assert not bench.of(Moved)
    assert not bench.of(Closed)
    assert len(host.of(Established)) == 1
    assert len(bench.arrived(Beat)) == 601


def test_silence_is_suspected_after_exactly_three_seconds_and_taken_back_at_the_next_word(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    assert bench.listener.wake_us() == START_US + 3 * SECOND_US
    assert bench.listener.tick(START_US + 3 * SECOND_US - 1) == []
    (suspected,) = bench.listener.tick(START_US + 3 * SECOND_US)
    assert isinstance(suspected, Moved)
    assert suspected.step == "suspected"
    assert bench.listener.tick(START_US + 3 * SECOND_US) == [], "said once"
    bench.now_us = START_US + 4 * SECOND_US
    raw(bench, b"c1", Beat(sequence=1), epoch=1)
    assert [event.step for event in bench.of(Moved)] == ["returned"]
    assert bench.listener.wake_us() == bench.now_us + 3 * SECOND_US


def test_a_lease_ends_exactly_at_receipt_plus_lease_plus_margin(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    bench.now_us += 700 * MILLISECOND_US
    raw(bench, b"c1", QUERY, epoch=1, number=1)
    end_us = bench.now_us + LEASE_END_US
    bench.listener.tick(end_us - LEASE_END_US + 3 * SECOND_US)
    assert bench.listener.wake_us() == end_us
    assert bench.listener.tick(end_us - 1) == []
    (closed,) = bench.listener.tick(end_us)
    assert isinstance(closed, Closed)
    assert closed.ending is Ending.LEASE
    assert bench.listener.sessions == {}
    assert bench.listener.wake_us() is None
    assert refusals_of(raw(bench, b"c1", Beat(sequence=1), epoch=1)) == [RefusalCode.NO_SESSION]


def test_what_the_grantor_pushes_renews_nothing(bench: Bench) -> None:
    host = bench.connected()
    session = bench.listener.sessions["lp1"]
    end_us = bench.listener.lease_end_us(session)
    anchor_us = host.dialer.lease_anchor_us
    bench.now_us += 500 * MILLISECOND_US
    bench.listener.notify(session, CHANGE)
    bench.listener.call(session, QUERY, bench.now_us)
    bench.collect()
    for packet in bench.packets:
        host.events += host.dialer.receive(packet.envelope, bench.now_us)
    assert [event.body for event in host.of(Noticed)][-1] == CHANGE
    assert len(host.of(Called)) == 1
    assert bench.listener.lease_end_us(session) == end_us
    assert host.dialer.lease_anchor_us == anchor_us


def test_a_gone_connection_does_not_shorten_the_lease_of_a_beating_session(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    bench.listener.unreachable(b"c1", bench.now_us + SECOND_US)
    assert bench.listener.lease_end_us(bench.listener.sessions["lp1"]) == START_US + LEASE_END_US


def beats_on_the_wire(host: Host) -> list[Envelope]:
    wishes = host.effects.take().transmissions
    return [wish.envelope for wish in wishes if isinstance(wish, Send) and isinstance(wish.envelope.body, Beat)]


def test_the_holder_counts_its_lease_from_the_send_time_of_the_latest_echoed_beat(bench: Bench) -> None:
    host = bench.host()
    host.dialer.open(bench.now_us)
    host.dialer.receive(Envelope(welcome_of(raw(bench, b"c1", hello())), epoch=1), START_US)
    assert host.dialer.lease_anchor_us is None, "WELCOME is no echo"
    sent_us = [START_US]
    beats_on_the_wire(host)
    for _ in range(3):
        sent_us.append(sent_us[-1] + TERMS.beat_us)
        host.dialer.receive(Envelope(Probe(), epoch=1), sent_us[-1])
        host.dialer.tick(sent_us[-1])
        assert len(beats_on_the_wire(host)) == 1

    def echo(sequence: int) -> int | None:
        host.dialer.receive(Envelope(BeatEcho(sequence=sequence, generation=0), epoch=1), sent_us[-1] + 900_000)
        return host.dialer.lease_anchor_us

    assert echo(2) == sent_us[1]
    assert echo(4) == sent_us[3]
    assert echo(3) == sent_us[3], "a late echo of an earlier beat takes nothing back"
    assert echo(4) == sent_us[3]
    assert echo(99) == sent_us[3], "an echo of no beat counts for nothing"


def test_a_new_incarnation_has_no_lease_until_a_beat_of_its_own_is_echoed(bench: Bench) -> None:
    host = bench.connected()
    assert host.dialer.lease_anchor_us is not None
    bench.now_us += 900 * MILLISECOND_US
    host.dialer.start_over(b"second incarnation"[:16], bench.now_us)
    assert host.dialer.lease_anchor_us is None


def test_the_holders_lease_never_outlasts_the_grantors(bench: Bench) -> None:
    host = bench.connected()
    for _ in range(20):
        bench.pass_time(700 * MILLISECOND_US)
        anchor_us = host.dialer.lease_anchor_us
        assert anchor_us is not None
        end_us = bench.listener.lease_end_us(bench.listener.sessions["lp1"])
        assert end_us is not None
        assert anchor_us + TERMS.lease_us + TERMS.drift_margin_us <= end_us


def test_silence_of_the_listener_makes_the_dialer_leave_the_connection_and_keep_the_session(bench: Bench) -> None:
    host = bench.connected()
    before = host.peer
    heard_us = bench.now_us
    while host.peer == before:
        wake_us = host.dialer.wake_us()
        assert wake_us is not None
        bench.now_us = wake_us
        host.dialer.tick(bench.now_us)
        bench.lose()
    assert bench.now_us == heard_us + TERMS.suspect_us
    bench.pass_time(HELLO_REPEAT_US)
    assert [event.resumed for event in host.of(Established)] == [False, True]
    assert not host.of(Ended)


def test_a_partition_that_was_stopped_for_less_than_its_lease_goes_on_as_if_nothing_had_happened(bench: Bench) -> None:
    host = bench.connected()
    bench.listener_alone(TERMS.lease_us - SECOND_US)
    bench.pass_time(5 * SECOND_US)
    assert host.dialer.established
    assert host.session.epoch == 1
    assert next(event.step for event in bench.of(Moved)) == "suspected"
    assert not bench.of(Closed)
