"""HELLO and WELCOME on a virtual clock: who is connected as whom, and who has to wait."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.dialer import HELLO_REPEAT_US, Dialer, Identity
from protocol.effects import Effects, Send
from protocol.exchange import OUTSTANDING_LIMIT
from protocol.refusals import RefusalCode
from protocol.session import (
    Closed,
    Ended,
    Ending,
    Established,
    Opened,
    Session,
    Terms,
)
from protocol.session_messages import Beat, BeatEcho, Bye, Hello, Refused, Welcome
from protocol.wire import Envelope, refuse
from tests.protocol.bench import LIFELONG, TERMS, Bench, Host, raw
from tests.protocol.words import (
    LEASE_END_US,
    QUERY,
    endings,
    hello,
    refusals_of,
    welcome_of,
)


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


@pytest.mark.parametrize("code", [RefusalCode.IN_USE, RefusalCode.SLOTS_FULL, RefusalCode.NO_PROCESSORS])
def test_what_a_hello_waits_for_is_told_to_the_operator_once(code: RefusalCode) -> None:
    effects = Effects()
    dialer = Dialer("hcall", "ipc://listener", Identity("lpar", "lp1", bytes(16), "local", 1, {}), TERMS, effects)
    dialer.open(0)
    for now_us in range(3):
        assert dialer.receive(Envelope(refuse(code, "another name", "this one", 500)), now_us) == []
    assert [line.event for line in effects.log] == ["name_in_use" if code is RefusalCode.IN_USE else code.value]


@pytest.mark.parametrize("code", [RefusalCode.SLOTS_FULL, RefusalCode.NO_PROCESSORS])
def test_a_refusal_that_names_no_time_to_ask_again_ends_a_claim(code: RefusalCode) -> None:
    dialer = Dialer("hcall", "ipc://listener", Identity("slot", "lpar", bytes(16), "local", 1, {}), TERMS, Effects())
    dialer.open(0)
    (event,) = dialer.receive(Envelope(refuse(code, "a free slot", "none")), 1)
    assert isinstance(event, Ended)


def test_who_claims_a_slot_has_the_name_that_welcome_says_until_it_starts_over() -> None:
    dialer = Dialer("hcall", "ipc://listener", Identity("slot", "lpar", bytes(16), "local", 1, {}), TERMS, Effects())
    dialer.open(0)
    welcome = Welcome(
        name="lpar-02", epoch=7, secret=b"s", resumed=False, beat_ms=1_000, lease_ms=10_000, outstanding=64
    )
    dialer.receive(Envelope(welcome), 1)
    assert (dialer.session.name, dialer.identity.name) == ("lpar-02", "lpar")
    dialer.start_over(bytes(reversed(range(16))), 2)
    assert (dialer.session.name, dialer.session.epoch) == ("lpar", 0)


def test_a_resumed_session_takes_no_welcome_of_another_name() -> None:
    """Epochs of two slots may be told apart by their number; what counts is that both are the session's."""
    dialer = Dialer("hcall", "ipc://listener", Identity("slot", "lpar", bytes(16), "local", 1, {}), TERMS, Effects())
    dialer.open(0)
    welcome = Welcome(
        name="lpar-02", epoch=7, secret=b"s", resumed=False, beat_ms=1_000, lease_ms=10_000, outstanding=64
    )
    dialer.receive(Envelope(welcome), 1)
    for other in ({"name": "lpar-01"}, {"epoch": 8}):
        assert dialer.receive(Envelope(welcome.model_copy(update={**other, "secret": b"other"})), 2) == []
        assert (dialer.session.name, dialer.session.epoch, dialer.session.secret) == ("lpar-02", 7, b"s")
