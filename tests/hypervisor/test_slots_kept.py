"""Slots beside the console's changes, and over restarts of the hypervisor."""

from __future__ import annotations

import pytest

from protocol.codes import HcallCode
from protocol.console_messages import (
    ChangeProcessors,
    ConsoleFailure,
    HoldChanged,
    HoldNotifications,
    MigratePartition,
    SetQosCredits,
)
from protocol.session_messages import Hello
from protocol.system import SystemSettings
from protocol.wire import Envelope
from tests.hypervisor.cluster import Cluster, Kill, settings
from tests.hypervisor.replica import LEASE_US, Replicas, with_slots

SECOND_US = 1_000_000
FREE = (320, 10)


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


def test_a_free_slot_cannot_be_changed(replicas: Replicas) -> None:
    cluster = replicas.cluster
    replies = [
        cluster.dlpar("lpar-01", 1),
        cluster.entitle("lpar-01", 50),
        cluster.qos("lpar-01", 1),
        cluster.migrate("lpar-01"),
        cluster.console.ask(HoldNotifications(lpar="lpar-01", hold=True)),
    ]
    for reply in replies:
        assert isinstance(reply, ConsoleFailure)
        assert (reply.code, reply.text) == ("free_slot", "lpar-01 is a free slot")
    assert replicas.free() == FREE
    replicas.dial(0)
    assert isinstance(cluster.console.ask(HoldNotifications(lpar="lpar-01", hold=False)), HoldChanged)


@pytest.mark.parametrize("kind", ["cores", "qos", "migration"])
def test_changes_that_wait_for_a_slot_fail_when_it_is_freed(replicas: Replicas, kind: str) -> None:
    """One is with its kernel, another waits behind it."""
    cluster = replicas.cluster
    (replica,) = replicas.dial(0)
    replica.follows = False
    first = cluster.new_console("console-2")
    second = cluster.new_console("console-3")
    cluster.wait(lambda: first.dialer.established and second.dialer.established)
    bodies = {
        "cores": ChangeProcessors(lpar="lpar-01", cores=1, wait_ms=60_000),
        "qos": SetQosCredits(lpar="lpar-01", credits=6, wait_ms=60_000),
        "migration": MigratePartition(lpar="lpar-01", hold_ms=0, wait_ms=60_000),
    }
    numbers = []
    for console in (first, second):
        numbers.append(console.send(bodies[kind]))
        cluster.pump()
    replica.dialer.say_bye()
    cluster.pump()
    for console, number in zip((first, second), numbers, strict=True):
        reply = console.answers[number]
        assert isinstance(reply, ConsoleFailure)
        expected = "not_migrated" if kind == "migration" and console is first else "free_slot"
        assert reply.code == expected
    assert replicas.free() == FREE
    replicas.books_balance()


def test_an_unknown_partition_is_told_which_there_are_but_for_free_slots(replicas: Replicas) -> None:
    replicas.dial(0)
    reply = replicas.cluster.dlpar("lp9", 1)
    assert isinstance(reply, ConsoleFailure)
    assert reply.advice == "this system has lp1, lp2, lp3, lpar-01"


def test_metrics_have_claimed_slots_alone(replicas: Replicas) -> None:
    replicas.dial(0)
    families = {family.name: family for family in replicas.cluster.core.metrics()}
    for name in ("vasbus_credits_target", "vasbus_configuration_changes_queued"):
        assert {sample.labels[0] for sample in families[name].samples} == {"lp1", "lp2", "lp3", "lpar-01"}
    states = {sample.labels[0]: sample.value for sample in families["vasbus_slots"].samples}
    assert states == {"claimed": 1, "free": 2}


def test_a_system_without_slots_has_no_metric_of_them(cluster: Cluster) -> None:
    assert "vasbus_slots" not in {family.name for family in cluster.core.metrics()}


def test_a_restart_keeps_claims(replicas: Replicas) -> None:
    cluster = replicas.cluster
    first, second = replicas.dial(0, 1)
    window = first.open_window()
    cluster.dlpar("lpar-01", 1)
    before, free = replicas.cores(), replicas.free()
    cluster.restart()
    cluster.wait(lambda: not cluster.core.recovering)
    cluster.advance(5 * SECOND_US)
    assert (first.slot, second.slot) == ("lpar-01", "lpar-02")
    assert (replicas.cores(), replicas.free()) == (before, free)
    assert first.deallocate(window.window_id) is HcallCode.H_SUCCESS
    cluster.dlpar("lpar-01", -1)
    (third,) = replicas.dial(2)
    assert third.slot == "lpar-03"


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_crash_in_the_middle_of_a_claim_gives_one_slot(replicas: Replicas, turns: int, committed: bool) -> None:
    cluster = replicas.cluster
    cluster.kill = Kill(turns, committed)
    (replica,) = replicas.dial(0)
    cluster.advance(3 * LEASE_US)
    assert replicas.claimed() == [replica.slot] == ["lpar-01"]
    assert replicas.free() == (220, 8)
    replicas.books_balance()


@pytest.mark.parametrize("committed", [False, True])
def test_a_crash_in_the_middle_of_a_release_loses_and_doubles_nothing(replicas: Replicas, committed: bool) -> None:
    cluster = replicas.cluster
    (replica,) = replicas.dial(0)
    replica.open_window()
    cluster.kill = Kill(1, committed)
    replica.dialer.say_bye()
    replica.die()
    cluster.advance(3 * LEASE_US)
    assert cluster.kills == 1
    assert replicas.claimed() == []
    assert replicas.free() == FREE
    assert cluster.windows() == []


def restarted_with(cluster: Cluster, system: SystemSettings) -> None:
    """The hypervisor is down; the system file is another one when it comes back."""
    cluster.system = system
    cluster.restart()


def test_a_slot_with_processors_and_no_session_is_freed_at_the_start(replicas: Replicas) -> None:
    """Its session ended while the file had fewer slots: nobody took back what it had."""
    cluster = replicas.cluster
    replica = replicas.dial(0, 1)[1]
    restarted_with(cluster, with_slots(count=1))
    replica.die()
    cluster.advance(SECOND_US)
    assert replicas.claimed() == ["lpar-01"]
    restarted_with(cluster, with_slots())
    cluster.advance(SECOND_US)
    assert replicas.claimed() == ["lpar-01"]
    assert replicas.free() == (220, 8)
    replicas.books_balance()


def test_a_free_slot_that_the_file_names_is_a_partition_with_what_the_file_says(replicas: Replicas) -> None:
    cluster = replicas.cluster
    named = [*cluster.system.model_dump()["lpar"], {"name": "lpar-02", "cores": 1}]
    restarted_with(cluster, settings(lpar=named, qos_credits=10))
    assert cluster.lpar_status("lpar-02").cores == 1
    assert cluster.status().slots is None


def test_a_replica_outlives_hellos_that_come_twice_and_late(replicas: Replicas) -> None:
    """The network repeats a HELLO after the session that it began is over: that one lives for a lease, unproven."""
    cluster = replicas.cluster
    (replica,) = replicas.dial(0)
    hello = Hello(role="slot", name="lpar", incarnation=replica.dialer.identity.incarnation)
    replica.dialer.say_bye()
    cluster.pump()
    assert replicas.claimed() == []
    assert replica.peer is not None
    cluster.core.receive("hcall", replica.peer, Envelope(hello), cluster.now_us)
    cluster.pump()
    replica.die()
    assert replicas.claimed() == ["lpar-01"]
    cluster.advance(LEASE_US)
    assert replicas.claimed() == []
    assert replicas.free() == FREE
