"""Two live processes of one name: the second waits while the first may be dead, and is refused once that one lives."""

from __future__ import annotations

from protocol.claims import CLAIMS_LIMIT
from protocol.clock import SECOND_US
from protocol.dialer import HELLO_REPEAT_US
from protocol.refusals import RefusalCode
from protocol.session import Ended, Ending
from protocol.session_messages import Beat, Hello
from tests.failures.rows import failure
from tests.protocol.bench import LIFELONG, TERMS, Bench, Host, raw
from tests.protocol.words import LEASE_END_US, endings, hello, refusals_of, restart

PATIENCE_US = 2 * LEASE_END_US


def newcomer_of(bench: Bench) -> Host:
    newcomer = bench.host()
    newcomer.dialer.open(bench.now_us)
    bench.settle()
    return newcomer


@failure(
    "lpar",
    "started a second time while the first process lives",
    seen="The second process waits with a warning, then exits with code 8 and the first one's pid.",
    lasts="Two leases; on one machine it ends at once with exit code 7.",
    kept="Everything of the first process.",
)
def test_a_second_process_is_refused_when_the_first_has_lived_for_two_leases(bench: Bench) -> None:
    holder = bench.connected()
    newcomer = newcomer_of(bench)
    bench.pass_time(PATIENCE_US - 1)
    assert not newcomer.of(Ended), "the holder may still be found dead"
    assert len(bench.arrived(Hello)) > 20
    bench.pass_time(HELLO_REPEAT_US + 1)
    (ended,) = newcomer.of(Ended)
    assert ended.refusal.code is RefusalCode.NAME_HELD
    assert "pid 1" in ended.refusal.came
    assert holder.dialer.established
    assert endings(bench) == []


def test_a_second_process_gets_the_name_when_the_first_dies_late(bench: Bench) -> None:
    holder = bench.connected()
    newcomer = newcomer_of(bench)
    bench.pass_time(PATIENCE_US - 2 * SECOND_US)
    bench.kill(holder)
    bench.pass_time(2 * SECOND_US)
    assert newcomer.dialer.established
    assert endings(bench) == [(1, Ending.REPLACED)]


def test_restarts_of_the_listener_do_not_make_a_dead_holder_look_alive(bench: Bench) -> None:
    """Each restart gives the holder a full new lease; nobody has heard it, so nobody is refused for good."""
    bench.connected()
    dead = bench.hosts.pop()
    newcomer = newcomer_of(bench)
    silent = bench.host("silent")
    silent.peer = dead.peer
    for _ in range(6):
        bench.pass_time(LEASE_END_US - SECOND_US)
        assert not newcomer.of(Ended)
        restart(bench)
    bench.pass_time(LEASE_END_US + HELLO_REPEAT_US)
    assert newcomer.dialer.established


def test_a_holder_that_fell_silent_after_the_claim_is_not_taken_for_alive(bench: Bench) -> None:
    raw(bench, b"holder", hello())
    claimed_us = bench.now_us
    raw(bench, b"other", hello(incarnation=b"j" * 16))
    bench.now_us = claimed_us + LEASE_END_US - 1
    raw(bench, b"holder", Beat(sequence=1), epoch=1)
    bench.now_us = claimed_us + PATIENCE_US
    assert refusals_of(raw(bench, b"other", hello(incarnation=b"j" * 16))) == [RefusalCode.IN_USE]


def test_a_holder_that_was_heard_after_the_lease_it_had_at_the_claim_is_alive(bench: Bench) -> None:
    raw(bench, b"holder", hello())
    claimed_us = bench.now_us
    raw(bench, b"other", hello(incarnation=b"j" * 16))
    bench.now_us = claimed_us + LEASE_END_US
    raw(bench, b"holder", Beat(sequence=1), epoch=1)
    bench.now_us = claimed_us + PATIENCE_US - 1
    assert refusals_of(raw(bench, b"other", hello(incarnation=b"j" * 16))) == [RefusalCode.IN_USE]
    bench.now_us += 1
    assert refusals_of(raw(bench, b"other", hello(incarnation=b"j" * 16))) == [RefusalCode.NAME_HELD]


def test_each_waiting_process_has_its_own_two_leases(bench: Bench) -> None:
    bench.connected()
    first = newcomer_of(bench)
    bench.pass_time(TERMS.lease_us)
    second = newcomer_of(bench)
    bench.pass_time(PATIENCE_US - TERMS.lease_us + HELLO_REPEAT_US)
    assert (len(first.of(Ended)), len(second.of(Ended))) == (1, 0)
    bench.pass_time(TERMS.lease_us)
    assert len(second.of(Ended)) == 1


def test_a_process_whose_connection_is_there_lives(lifelong: Bench) -> None:
    lifelong.connected()
    newcomer = newcomer_of(lifelong)
    lease_us = LIFELONG.lease_us + LIFELONG.drift_margin_us
    lifelong.pass_time(2 * lease_us - 1)
    assert not newcomer.of(Ended)
    lifelong.pass_time(HELLO_REPEAT_US + 1)
    assert newcomer.of(Ended)[0].refusal.code is RefusalCode.NAME_HELD


def test_the_table_of_waiting_processes_is_bounded(bench: Bench) -> None:
    bench.connected()
    for number in range(3 * CLAIMS_LIMIT):
        raw(bench, b"flood", hello(incarnation=number.to_bytes(16, "big")))
    assert len(bench.listener.sessions["lp1"].claims) == CLAIMS_LIMIT
