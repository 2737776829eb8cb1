"""Claims that find nothing, and who may claim what by name."""

from __future__ import annotations

import pytest

from protocol.console_messages import (
    ConfigurationApplied,
    SetQosCredits,
)
from protocol.refusals import RefusalCode
from protocol.session_messages import Welcome
from protocol.wire import Envelope
from tests.hypervisor.cluster import Cluster, settings
from tests.hypervisor.fake_lpar import FakeLpar
from tests.hypervisor.replica import LEASE_US, NAMES, Replica, Replicas

SECOND_US = 1_000_000
FREE = (320, 10)


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


def waits_then_ends(replicas: Replicas, number: int, code: RefusalCode) -> Replica:
    """A claim that finds nothing: it is repeated for two leases, and then refused for good."""
    cluster, replica = replicas.cluster, replicas.all[number]
    began_us = cluster.now_us
    replica.start()
    cluster.wait(lambda: replica.ended is not None)
    assert replica.ended is not None
    assert replica.ended.code is code
    assert replica.ended.is_definite
    assert 2 * LEASE_US <= cluster.now_us - began_us <= 2 * LEASE_US + 1_100_000
    replica.die()
    return replica


def test_when_every_slot_is_claimed_one_more_is_refused_after_two_leases(replicas: Replicas) -> None:
    replicas.dial(0, 1, 2)
    ended = waits_then_ends(replicas, 3, RefusalCode.SLOTS_FULL).ended
    assert ended is not None
    assert ended.expected == "a free slot of 'lpar'"
    assert ended.came == "3 of 3 claimed, for 21 s"
    assert "slots.count" in ended.advice
    assert [line.event for line in replicas.cluster.log].count("slot_refused") == 1


def test_a_claim_that_waits_gets_the_slot_of_a_dead_replica(replicas: Replicas) -> None:
    cluster = replicas.cluster
    _, second, _ = replicas.dial(0, 1, 2)
    second.die()
    heard_us = cluster.now_us
    (fourth,) = replicas.dial(3)
    assert fourth.slot == "lpar-02"
    assert cluster.now_us - heard_us <= LEASE_US + 1_100_000
    replicas.books_balance()


def test_where_dlpar_gave_the_processors_away_a_claim_is_refused(replicas: Replicas) -> None:
    cluster = replicas.cluster
    replicas.dial(0)
    assert isinstance(cluster.dlpar("lp1", 2), ConfigurationApplied)
    ended = waits_then_ends(replicas, 1, RefusalCode.NO_PROCESSORS).ended
    assert ended is not None
    assert ended.expected == "100 hundredths of a processor and 2 QoS credits for lpar-02"
    assert ended.came.startswith("20 hundredths and 8 QoS credits that nobody has")
    replicas.all[2].start()
    cluster.advance(LEASE_US)
    assert not replicas.all[2].has_slot
    assert isinstance(cluster.dlpar("lp1", -1), ConfigurationApplied)
    cluster.wait(lambda: replicas.all[2].has_slot, 2 * SECOND_US)
    assert replicas.all[2].slot == "lpar-02"


def test_where_the_qos_credits_were_given_away_a_claim_is_refused(replicas: Replicas) -> None:
    assert isinstance(replicas.cluster.qos("lp1", 9), ConfigurationApplied)
    ended = waits_then_ends(replicas, 0, RefusalCode.NO_PROCESSORS).ended
    assert ended is not None
    assert ended.came.startswith("320 hundredths and 1 QoS credits")


def test_qos_credits_that_are_promised_are_not_given_to_a_claim(replicas: Replicas) -> None:
    cluster = replicas.cluster
    cluster.lpars["lp1"].follows = False
    cluster.console.send(SetQosCredits(lpar="lp1", credits=9, wait_ms=60_000))
    cluster.pump()
    replicas.all[0].start()
    cluster.advance(3 * SECOND_US)
    assert not replicas.all[0].has_slot


def test_incarnations_that_have_given_up_are_not_remembered(replicas: Replicas) -> None:
    replicas.dial(0, 1, 2)
    for _ in range(5):
        replicas.all[3].start()
        replicas.cluster.advance(3 * SECOND_US)
        replicas.all[3].die()
    replicas.cluster.advance(LEASE_US)
    replicas.all[3].start()
    replicas.cluster.pump()
    assert len(replicas.cluster.core.slots.waiting) == 1


def test_a_slots_name_is_not_for_the_asking(replicas: Replicas) -> None:
    cluster = replicas.cluster
    for name in NAMES:
        stranger = FakeLpar(cluster, name)
        cluster.lpars[f"stranger-{name}"] = stranger
        stranger.start()
        cluster.wait(lambda: stranger.ended is not None)  # noqa: B023
        assert stranger.ended is not None
        assert stranger.ended.code is RefusalCode.UNKNOWN_NAME
        assert "the role slot and the template's name 'lpar'" in stranger.ended.expected
    assert replicas.free() == FREE


def test_another_name_than_the_templates_is_told_which_it_is(replicas: Replicas) -> None:
    replica = replicas.all[0]
    for name in ("lpar-01", "lp1", "other"):
        replica.name = name
        replica.start()
        replicas.cluster.wait(lambda: replica.ended is not None)
        assert replica.ended is not None
        assert replica.ended.expected == "the name of the slots' template: 'lpar'"


def test_a_system_without_slots_refuses_claims_for_good() -> None:
    cluster = Cluster(settings()).start()
    replica = Replica(cluster, 0)
    replica.start()
    cluster.wait(lambda: replica.ended is not None)
    assert replica.ended is not None
    assert replica.ended.expected == "a partition's name: the system file has no [slots]"


def test_a_copy_of_a_replicas_hello_takes_nothing_from_it(replicas: Replicas) -> None:
    """An old HELLO that somebody repeats on a connection of his own."""
    first, thief = replicas.dial(0)[0], replicas.all[1]
    first.open_window()
    thief.start()
    who = first.dialer.identity
    thief.dialer.identity = who
    thief.effects.transmissions.clear()
    thief.dialer.open(replicas.cluster.now_us)
    replicas.cluster.advance(2 * SECOND_US)
    assert not thief.dialer.established
    assert replicas.claimed() == ["lpar-01"]
    assert first.dialer.established


def test_a_late_welcome_of_another_slot_is_not_taken(replicas: Replicas) -> None:
    (replica,) = replicas.dial(0)
    known = replica.dialer.session
    late = Welcome(
        name="lpar-03", epoch=known.epoch, secret=b"other", resumed=False, beat_ms=1, lease_ms=1, outstanding=1
    )
    assert replica.dialer.receive(Envelope(late), replicas.cluster.now_us) == []
    assert (known.name, known.secret) != ("lpar-03", b"other")
