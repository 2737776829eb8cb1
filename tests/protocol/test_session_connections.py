"""Sessions that live as long as their connection: probes instead of beats."""

from __future__ import annotations

from dataclasses import replace

from protocol.clock import SECOND_US
from protocol.refusals import RefusalCode
from protocol.session import (
    Called,
    Closed,
    Ending,
    Established,
    Moved,
)
from protocol.session_messages import Beat, Probe
from tests.protocol.bench import LIFELONG, Bench, raw
from tests.protocol.words import (
    QUERY,
    endings,
    hello,
    refusals_of,
    restart,
    welcome_of,
)


def test_every_connection_is_probed_every_beat(lifelong: Bench) -> None:
    lifelong.connected("a")
    lifelong.connected("b")
    lifelong.seen.clear()
    lifelong.pass_time(10 * SECOND_US)
    assert len(lifelong.arrived(Probe)) in (20, 22)
    assert not lifelong.arrived(Beat)


def test_an_idle_client_is_never_suspected_and_never_redials(lifelong: Bench) -> None:
    host = lifelong.connected()
    lifelong.pass_time(600 * SECOND_US)
    assert not lifelong.of(Moved)
    assert not lifelong.of(Closed)
    assert len(host.of(Established)) == 1


def test_a_client_that_computes_for_minutes_keeps_its_session(lifelong: Bench) -> None:
    host = lifelong.connected()
    for _ in range(300):
        lifelong.now_us += SECOND_US
        lifelong.events += lifelong.listener.tick(lifelong.now_us)
        lifelong.collect()
    assert not lifelong.of(Closed)
    host.dialer.call(host.session, QUERY, lifelong.now_us)
    lifelong.settle()
    assert len(lifelong.of(Called)) == 1
    assert len(host.of(Established)) == 1


def test_a_lost_connection_is_noticed_by_the_next_probe_and_the_lease_runs_from_there(lifelong: Bench) -> None:
    host = lifelong.connected()
    lifelong.pass_time(10 * SECOND_US)
    session = lifelong.listener.sessions["lp1"]
    assert lifelong.listener.lease_end_us(session) is None
    lifelong.kill(host)
    lifelong.pass_time(LIFELONG.beat_us)
    assert session.peer is None
    assert session.gone_us is not None
    end_us = session.gone_us + LIFELONG.lease_us + LIFELONG.drift_margin_us
    lifelong.pass_time(end_us - lifelong.now_us - 1)
    assert not lifelong.of(Closed)
    lifelong.pass_time(1)
    assert endings(lifelong) == [(1, Ending.LEASE)]


def test_a_connection_that_was_remade_without_anybody_being_told_is_noticed_by_its_silence(lifelong: Bench) -> None:
    host = lifelong.connected()
    lifelong.pass_time(10 * SECOND_US)
    lifelong.reconnect(host)
    lifelong.pass_time(60 * SECOND_US)
    assert host.dialer.established
    assert not lifelong.of(Closed)
    assert [event.step for event in lifelong.of(Moved)] == ["resumed"]


def test_a_listener_that_probes_seldom_is_given_time_for_several_probes() -> None:
    bench = Bench(replace(LIFELONG, beat_us=5 * SECOND_US))
    host = bench.connected()
    bench.pass_time(60 * SECOND_US)
    assert len(host.of(Established)) == 1


def test_a_client_that_comes_back_within_the_lease_keeps_its_session(lifelong: Bench) -> None:
    host = lifelong.connected()
    peer = host.peer
    assert peer is not None
    lifelong.listener.unreachable(peer, lifelong.now_us)
    lifelong.now_us += LIFELONG.lease_us
    session = lifelong.listener.sessions["lp1"]
    raw(lifelong, b"c9", hello(incarnation=session.incarnation, epoch=1, secret=session.secret))
    assert lifelong.listener.lease_end_us(session) is None
    assert lifelong.listener.tick(lifelong.now_us + 60 * SECOND_US) == []


def test_what_is_said_on_the_old_connection_after_a_move_is_refused(lifelong: Bench) -> None:
    welcome = welcome_of(raw(lifelong, b"c1", hello()))
    raw(lifelong, b"c2", hello(epoch=1, secret=welcome.secret))
    assert refusals_of(raw(lifelong, b"c1", QUERY, epoch=1, number=1)) == [RefusalCode.NO_SESSION]
    lifelong.listener.unreachable(b"c1", lifelong.now_us)
    assert lifelong.listener.sessions["lp1"].peer == b"c2", "the end of the old connection is not the new one's"


def test_after_a_restart_a_connection_lived_session_has_one_lease_to_come_back(lifelong: Bench) -> None:
    lifelong.connected()
    restart(lifelong)
    session = lifelong.listener.sessions["lp1"]
    end_us = lifelong.now_us + LIFELONG.lease_us + LIFELONG.drift_margin_us
    assert lifelong.listener.lease_end_us(session) == end_us


def test_a_connection_that_is_made_again_under_its_routing_id_carries_its_session_on(lifelong: Bench) -> None:
    """Whatever the program at its end does meanwhile: it says nothing here."""
    host = lifelong.connected()
    session, peer = lifelong.listener.sessions["lp1"], host.peer
    assert peer is not None
    lifelong.listener.unreachable(peer, lifelong.now_us)
    assert (session.peer, session.gone_us) == (None, lifelong.now_us)
    lifelong.seen.clear()
    lifelong.pass_time(LIFELONG.beat_us + 1)
    assert (session.peer, session.gone_us) == (peer, None)
    assert lifelong.arrived(Probe)
    lifelong.pass_time(60 * SECOND_US)
    assert not lifelong.of(Closed)
    assert len(host.of(Established)) == 1


def test_a_lost_connection_that_had_chosen_no_routing_id_is_not_looked_for(lifelong: Bench) -> None:
    """libzmq makes its own routing ids up anew: whoever had the old one would be somebody else."""
    raw(lifelong, b"\x00abcd", hello())
    session = lifelong.listener.sessions["lp1"]
    lifelong.listener.unreachable(b"\x00abcd", lifelong.now_us)
    gone_us = lifelong.now_us
    lifelong.seen.clear()
    lifelong.pass_time(LIFELONG.lease_us)
    assert (session.peer, session.gone_us, session.alive) == (None, gone_us, True)
    assert not lifelong.seen, "no probe"
    lifelong.pass_time(LIFELONG.drift_margin_us)
    assert endings(lifelong) == [(1, Ending.LEASE)]
    assert not lifelong.listener._by_peer


def test_a_lost_connection_is_looked_for_in_vain_until_its_lease_ends_and_not_after(lifelong: Bench) -> None:
    host = lifelong.connected()
    session = lifelong.listener.sessions["lp1"]
    lifelong.kill(host)
    lifelong.pass_time(LIFELONG.beat_us)
    assert session.gone_us is not None
    end_us = session.gone_us + LIFELONG.lease_us + LIFELONG.drift_margin_us
    lifelong.pass_time(end_us - lifelong.now_us - 1)
    assert session.alive
    assert session.peer is None
    lifelong.pass_time(1)
    assert endings(lifelong) == [(1, Ending.LEASE)]
    lifelong.seen.clear()
    lifelong.pass_time(60 * SECOND_US)
    assert not lifelong.seen
    assert not lifelong.listener._by_peer, "nothing is kept of it"


def test_what_is_said_on_a_lost_connection_shows_that_it_is_back(lifelong: Bench) -> None:
    welcome = welcome_of(raw(lifelong, b"c1", hello()))
    session = lifelong.listener.sessions["lp1"]
    lifelong.listener.unreachable(b"c1", lifelong.now_us)
    raw(lifelong, b"c1", QUERY, epoch=welcome.epoch, number=1)
    assert (session.peer, session.gone_us) == (b"c1", None)


def test_a_session_that_moved_is_not_looked_for_where_it_was_lost(lifelong: Bench) -> None:
    welcome = welcome_of(raw(lifelong, b"c1", hello()))
    lifelong.listener.unreachable(b"c1", lifelong.now_us)
    raw(lifelong, b"c2", hello(epoch=1, secret=welcome.secret))
    assert refusals_of(raw(lifelong, b"c1", QUERY, epoch=1, number=1)) == [RefusalCode.NO_SESSION]
    assert lifelong.listener.sessions["lp1"].peer == b"c2"


def test_a_connection_carries_one_session_and_another_hello_ends_the_first_at_once(lifelong: Bench) -> None:
    """Else one connection could fill the table with names."""
    first = hello("a", incarnation=b"a" * 16)
    for number in range(50):
        name = f"n{number}"
        assert welcome_of(raw(lifelong, b"c1", hello(name, incarnation=bytes(15) + bytes([number])))).name == name
        assert list(lifelong.listener.sessions) == [name]
    assert [ending for _, ending in endings(lifelong)] == [Ending.REPLACED] * 49
    welcome_of(raw(lifelong, b"c2", first))
    assert set(lifelong.listener.sessions) == {"n49", "a"}, "another connection has its own"
