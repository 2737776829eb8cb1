"""Sessions on a virtual clock: who is connected as whom, for how long, and who notices what when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.dialer import HELLO_REPEAT_US
from protocol.effects import DIALLED, Dial, Hangup, Send
from protocol.exchange import OUTSTANDING_LIMIT, REPEAT_FIRST_US
from protocol.hcall_messages import Configuration, ConfigurationChange, ConfigurationKind, QueryConfiguration
from protocol.listener import Listener
from protocol.refusals import RefusalCode
from protocol.session import (
    Answered,
    Called,
    Closed,
    Ended,
    Ending,
    Established,
    Moved,
    Noticed,
    Opened,
    Session,
    Terms,
)
from protocol.session_messages import Beat, BeatEcho, Bye, ByeDone, Hello, Probe, Refused, Welcome
from protocol.wire import Envelope, refuse
from tests.protocol.bench import LIFELONG, LINK, START_US, TERMS, Bench, Host, raw

QUERY = QueryConfiguration(generation=0)
ANSWER = Configuration(generation=7)
CHANGE = ConfigurationChange(generation=7, kind=ConfigurationKind.CPU, amount=0)
LEASE_END_US = TERMS.lease_us + TERMS.drift_margin_us


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def lifelong() -> Bench:
    return Bench(LIFELONG)


def hello(name: str = "lp1", incarnation: bytes = b"i" * 16, epoch: int = 0, secret: bytes = b"") -> Hello:
    return Hello(role="lpar", name=name, incarnation=incarnation, epoch=epoch, secret=secret)


def welcome_of(answers: list[Envelope]) -> Welcome:
    bodies = [envelope.body for envelope in answers]
    assert len(bodies) == 1, bodies
    assert isinstance(bodies[0], Welcome)
    return bodies[0]


def refusals_of(answers: list[Envelope]) -> list[RefusalCode]:
    return [envelope.body.code for envelope in answers if isinstance(envelope.body, Refused)]


def endings(bench: Bench) -> list[tuple[int, Ending]]:
    return [(event.session.epoch, event.ending) for event in bench.of(Closed)]


def answer_everything(bench: Bench) -> None:
    """Carry out every request that the listener has reported so far."""
    for event in bench.of(Called):
        bench.listener.answer(event.session, event.number, ANSWER)
    bench.settle()


# HELLO and WELCOME.


def test_hello_is_answered_with_an_epoch_a_secret_and_the_terms(bench: Bench) -> None:
    welcome = welcome_of(raw(bench, b"c1", hello()))
    assert (welcome.name, welcome.epoch, welcome.resumed) == ("lp1", 1, False)
    assert (welcome.beat_ms, welcome.probe_ms, welcome.lease_ms) == (1_000, 0, 10_000)
    assert welcome.outstanding == OUTSTANDING_LIMIT
    assert len(welcome.secret) == 16
    assert [event.session.name for event in bench.of(Opened)] == ["lp1"]


def test_a_session_that_lives_with_its_connection_is_promised_probes_instead_of_beats(lifelong: Bench) -> None:
    welcome = welcome_of(raw(lifelong, b"c1", hello()))
    assert (welcome.beat_ms, welcome.probe_ms) == (0, 1_000)


def test_both_ends_learn_of_the_new_session(bench: Bench) -> None:
    host = bench.connected()
    assert [event.resumed for event in host.of(Established)] == [False]
    assert host.session.epoch == bench.listener.sessions["lp1"].epoch


def test_hello_is_repeated_until_somebody_welcomes(bench: Bench) -> None:
    host = bench.host()
    host.dialer.open(bench.now_us)
    said = 0
    while said < 5:
        wishes = host.effects.take().transmissions
        assert [wish.envelope.body.type for wish in wishes if isinstance(wish, Send)] == ["hello"]
        said += 1
        bench.now_us += HELLO_REPEAT_US
        assert host.dialer.wake_us() == bench.now_us
        host.dialer.tick(bench.now_us)


def test_a_listener_that_stays_silent_is_dialled_anew(bench: Bench) -> None:
    host = bench.host()
    host.dialer.open(bench.now_us)
    bench.listener_alone(0)
    before = host.peer
    bench.now_us += TERMS.suspect_us
    host.dialer.tick(bench.now_us)
    bench.settle()
    assert host.peer != before
    assert host.dialer.established


def test_a_dialer_that_was_never_opened_asks_for_nothing(bench: Bench) -> None:
    host = bench.host()
    assert host.dialer.wake_us() is None
    host.dialer.tick(bench.now_us)
    assert host.effects.take().transmissions == []


def test_the_first_message_of_a_connection_has_to_be_hello(bench: Bench) -> None:
    answers = raw(bench, b"c1", QUERY, epoch=1, number=4)
    assert refusals_of(answers) == [RefusalCode.NO_SESSION]
    assert answers[0].number == 4
    assert bench.events == []


def test_a_lost_welcome_is_sent_again_to_the_same_incarnation(bench: Bench) -> None:
    first = welcome_of(raw(bench, b"c1", hello()))
    second = welcome_of(raw(bench, b"c1", hello()))
    assert (second.epoch, second.secret) == (first.epoch, first.secret)
    assert len(bench.of(Opened)) == 1


def test_the_same_incarnation_may_come_back_on_another_connection(bench: Bench) -> None:
    first = welcome_of(raw(bench, b"c1", hello()))
    second = welcome_of(raw(bench, b"c2", hello()))
    assert second.epoch == first.epoch
    assert refusals_of(raw(bench, b"c1", Beat(sequence=1), epoch=1)) == [RefusalCode.NO_SESSION]
    assert raw(bench, b"c2", Beat(sequence=1), epoch=1)[0].body == BeatEcho(sequence=1, generation=0)


def test_a_second_hello_for_a_live_name_is_refused_and_the_holder_is_probed(bench: Bench) -> None:
    host = bench.connected()
    answers = raw(bench, b"other", hello(incarnation=b"j" * 16))
    assert refusals_of(answers) == [RefusalCode.IN_USE]
    assert isinstance(answers[0].body, Refused)
    assert answers[0].body.after_ms == 500
    assert bench.listener.sessions["lp1"].incarnation == host.session.incarnation
    assert not bench.of(Closed)


def test_a_second_hello_replaces_a_holder_whose_connection_is_gone(bench: Bench) -> None:
    host = bench.connected()
    bench.kill(host)
    newcomer = bench.host()
    newcomer.dialer.open(bench.now_us)
    bench.settle()
    assert not newcomer.dialer.established, "the holder's connection was not known to be gone yet"
    bench.pass_time(SECOND_US)
    assert newcomer.dialer.established
    assert endings(bench) == [(1, Ending.REPLACED)]
    assert newcomer.session.epoch == 2


def test_a_second_hello_waits_for_the_lease_of_a_holder_whose_connection_still_exists(bench: Bench) -> None:
    holder = bench.connected()
    holder_heard_us = bench.now_us
    peer = holder.peer
    newcomer = bench.host()
    bench.hosts = [newcomer]
    stopped = replace_live(bench, holder)
    newcomer.dialer.open(bench.now_us)
    bench.pass_time(LEASE_END_US - 1)
    assert not newcomer.dialer.established
    bench.pass_time(2 * HELLO_REPEAT_US)
    assert newcomer.dialer.established
    assert endings(bench) == [(1, Ending.LEASE)]
    assert bench.now_us >= holder_heard_us + LEASE_END_US
    assert peer == stopped.peer


def replace_live(bench: Bench, holder: Host) -> Host:
    """Keep a process's connection while the process itself is stopped (SIGSTOP under a long heartbeat)."""
    silent = bench.host("silent")
    silent.peer = holder.peer
    return silent


def test_epochs_of_a_name_strictly_rise(bench: Bench) -> None:
    epochs = []
    for incarnation in range(5):
        peer = b"c%d" % incarnation
        epochs.append(welcome_of(raw(bench, peer, hello(incarnation=bytes([incarnation]) * 16))).epoch)
        bench.listener.unreachable(peer, bench.now_us)
    assert epochs == [1, 2, 3, 4, 5]


def test_names_have_epochs_of_their_own_where_sessions_beat(bench: Bench) -> None:
    assert welcome_of(raw(bench, b"c1", hello("lp1"))).epoch == 1
    assert welcome_of(raw(bench, b"c2", hello("lp2"))).epoch == 1


def test_sessions_of_one_connection_each_share_one_count_of_epochs_because_their_names_are_random(
    lifelong: Bench,
) -> None:
    assert welcome_of(raw(lifelong, b"c1", hello("a"))).epoch == 1
    assert welcome_of(raw(lifelong, b"c2", hello("b"))).epoch == 2
    assert lifelong.listener.epochs == {"": 2}


@pytest.mark.parametrize("terms", [TERMS, LIFELONG])
def test_epochs_go_on_rising_after_a_restart(terms: Terms) -> None:
    bench = Bench(terms)
    kept = Session("lpar", "lp1", 41, b"i" * 16, b"s" * 16)
    bench.listener.restore([kept], {"lp1": 41, "gone": 30}, bench.now_us)
    raw(bench, b"c1", hello(epoch=41, secret=b"s" * 16))
    raw(bench, b"c1", Bye(), epoch=41)
    assert welcome_of(raw(bench, b"c2", hello(incarnation=b"j" * 16))).epoch == 42


def test_one_connection_that_says_hello_under_another_name_leaves_the_first_session_without_one(bench: Bench) -> None:
    raw(bench, b"c1", hello("lp1"))
    raw(bench, b"c1", hello("lp2", b"j" * 16))
    assert bench.listener.sessions["lp1"].peer is None
    assert bench.listener.sessions["lp2"].peer == b"c1"


def test_a_name_that_the_role_does_not_admit_is_refused_and_the_dialer_gives_up(bench: Bench) -> None:
    bench.listener.admit = lambda _hello: refuse(RefusalCode.UNKNOWN_NAME, "lp9", "lp1")
    host = bench.host()
    host.dialer.open(bench.now_us)
    bench.settle()
    assert [event.refusal.code for event in host.of(Ended)] == [RefusalCode.UNKNOWN_NAME]
    assert host.dialer.wake_us() is None
    assert not bench.listener.sessions


def test_a_full_table_refuses_new_names_and_the_dialer_comes_back_when_it_was_told_to() -> None:
    bench = Bench(Terms(session_limit=1))
    first = bench.connected("lp1")
    second = bench.host("lp2")
    second.dialer.open(bench.now_us)
    bench.settle()
    assert refusals_of(bench.arrived(Refused)) == [RefusalCode.SESSIONS_FULL]
    assert second.dialer.wake_us() == bench.now_us + SECOND_US
    first.dialer.say_bye()
    bench.settle()
    bench.pass_time(SECOND_US)
    assert second.dialer.established


def test_a_full_table_still_takes_back_the_names_it_holds() -> None:
    bench = Bench(Terms(session_limit=1))
    bench.connected("lp1")
    bench.listener.unreachable(bench.hosts[0].peer or b"", bench.now_us)
    assert welcome_of(raw(bench, b"c9", hello("lp1", b"j" * 16))).epoch == 2


@pytest.mark.parametrize(("after_ms", "wait_us"), [(0, HELLO_REPEAT_US), (20, 20_000), (60_000, 60 * SECOND_US)])
def test_a_dialer_that_is_put_off_says_hello_when_it_was_told_to_and_not_in_a_storm(
    bench: Bench, after_ms: int, wait_us: int
) -> None:
    bench.listener.admit = lambda _hello: refuse(RefusalCode.DRAINING, "a partition that is up", "HELLO", after_ms)
    host = bench.host()
    host.dialer.open(bench.now_us)
    bench.settle()
    assert host.dialer.wake_us() == bench.now_us + wait_us
    bench.pass_time(10 * wait_us)
    assert len(bench.arrived(Hello)) == 11


# Coming back.


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


def restart(bench: Bench) -> None:
    """The listening process dies and comes back with what its journal held; connections are made anew."""
    bench.lose()
    kept = [
        Session(old.role, old.name, old.epoch, old.incarnation, old.secret) for old in bench.listener.sessions.values()
    ]
    epochs = dict(bench.listener.epochs)
    bench.listener = bench.make_listener()
    bench.listener.restore(kept, epochs, bench.now_us)
    for host in bench.hosts:
        bench.reconnect(host)


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


# Silence, suspicion and leases.


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


# Sessions that live as long as their connection.


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
