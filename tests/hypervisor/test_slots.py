"""Slots: a replica claims the lowest free one, and all of it is free again when its session is over."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.codes import CreditType, HcallCode
from protocol.console_messages import (
    ConfigurationApplied,
)
from protocol.refusals import RefusalCode
from protocol.session_messages import Welcome
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.replica import LEASE_US, Replicas

FREE = (320, 10)


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


def test_free_slots_have_nothing_and_are_no_partitions(replicas: Replicas) -> None:
    status = replicas.cluster.status()
    assert [lpar.name for lpar in status.lpars] == ["lp1", "lp2", "lp3"]
    assert status.slots is not None
    assert (status.slots.template, status.slots.count, status.slots.claimed) == ("lpar", 3, 0)
    assert replicas.free() == FREE


def test_a_system_without_slots_says_nothing_of_them(cluster: Cluster) -> None:
    assert cluster.status().slots is None


def test_a_claim_gets_the_lowest_free_slot_with_what_the_template_says(replicas: Replicas) -> None:
    first, second = replicas.dial(0, 1)
    assert (first.slot, second.slot) == ("lpar-01", "lpar-02")
    status = replicas.cluster.lpar_status("lpar-02")
    assert (status.state, status.mode, status.cores, status.home_chip) == ("running", "dedicated", 1, 1)
    assert replicas.cluster.pool("lpar-02") == (18, 0)
    assert replicas.cluster.pool("lpar-02", CreditType.QOS) == (2, 0)
    assert replicas.free() == (120, 6)
    slots = replicas.cluster.status().slots
    assert slots is not None
    assert slots.claimed == 2
    replicas.books_balance()


def test_a_claimed_slot_is_a_partition_like_any_other(replicas: Replicas) -> None:
    (replica,) = replicas.dial(0)
    window = replica.open_window()
    assert [row.lpar for row in replicas.cluster.windows()] == ["lpar-01"]
    assert replicas.cluster.pool("lpar-01") == (18, 1)
    assert replica.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert isinstance(replicas.cluster.dlpar("lpar-01", 1), ConfigurationApplied)
    assert replica.generation == 1
    assert replicas.cluster.pool("lpar-01") == (38, 0)


def test_a_claim_that_is_repeated_gets_the_same_slot(replicas: Replicas) -> None:
    """Its WELCOME is lost, twice."""
    cluster, replica = replicas.cluster, replicas.all[0]
    lost: list[Welcome] = []

    def loses(_name: str, body: object) -> bool:
        if isinstance(body, Welcome) and len(lost) < 2:
            lost.append(body)
            return True
        return False

    cluster.loses = loses
    replicas.dial(0, 1)
    assert [welcome.name for welcome in lost] == ["lpar-01", "lpar-01"]
    assert (replica.slot, replica.epoch) == ("lpar-01", lost[0].epoch)
    assert replicas.claimed() == ["lpar-01", "lpar-02"]
    replicas.books_balance()


def test_a_session_that_resumes_goes_on_in_its_slot(replicas: Replicas) -> None:
    first, second = replicas.dial(0, 1)
    window, epoch = second.open_window(), second.epoch
    first.die()
    replicas.cluster.advance(LEASE_US)
    second.cut = True
    replicas.cluster.advance(5 * SECOND_US)
    second.cut = False
    replicas.cluster.wait(lambda: second.dialer.established)
    assert (second.slot, second.epoch) == ("lpar-02", epoch), "not in the lower one that is free"
    assert second.deallocate(window.window_id) is HcallCode.H_SUCCESS


def test_a_slot_is_free_with_everything_when_its_lease_is_over(replicas: Replicas) -> None:
    cluster = replicas.cluster
    (replica,) = replicas.dial(0)
    replica.open_window()
    cluster.dlpar("lpar-01", 1)
    cluster.qos("lpar-01", 5)
    assert replicas.free() == (120, 5)
    replica.die()
    cluster.advance(LEASE_US)
    assert replicas.claimed() == []
    assert replicas.free() == FREE
    assert cluster.windows() == []
    replicas.books_balance()


def test_a_slot_is_free_at_once_after_bye(replicas: Replicas) -> None:
    first, _ = replicas.dial(0, 1)
    first.dialer.say_bye()
    replicas.cluster.pump()
    assert replicas.claimed() == ["lpar-02"]
    assert replicas.free() == (220, 8)


def test_the_lowest_slot_that_is_free_again_is_taken_next(replicas: Replicas) -> None:
    first, second, _ = replicas.dial(0, 1, 2)
    for replica in (second, first):
        replica.dialer.say_bye()
        replicas.cluster.pump()
    (fourth,) = replicas.dial(3)
    assert fourth.slot == "lpar-01"
    assert replicas.claimed() == ["lpar-01", "lpar-03"]


def test_a_slot_is_not_given_out_before_the_windows_of_its_last_holder_are_closed(replicas: Replicas) -> None:
    cluster = replicas.cluster
    (first,) = replicas.dial(0)
    first.open_window(chip=0)
    cluster.units["nx0"].mute = True
    first.dialer.say_bye()
    cluster.pump()
    assert replicas.free() == FREE, "its processors are free all the same"
    (second,) = replicas.dial(1)
    assert second.slot == "lpar-02"
    cluster.units["nx0"].mute = False
    cluster.units["nx0"].speak()
    cluster.pump()
    (third,) = replicas.dial(2)
    assert third.slot == "lpar-01"
    replicas.books_balance()


def test_a_replica_whose_session_died_gets_a_slot_of_its_own_and_none_of_its_windows(replicas: Replicas) -> None:
    cluster = replicas.cluster
    (replica,) = replicas.dial(0)
    window, epoch = replica.open_window(), replica.epoch
    replica.cut = True
    cluster.advance(12 * SECOND_US)
    replica.cut = False
    cluster.wait(lambda: replica.ended is not None)
    assert replica.ended is not None
    assert replica.ended.code is RefusalCode.SESSION_DEAD
    replicas.dial(0)
    assert replica.slot == "lpar-01"
    assert replica.epoch > epoch
    assert cluster.pool("lpar-01") == (18, 0)
    assert replica.deallocate(window.window_id) is HcallCode.H_PARAMETER
    assert not any(unit.takes_paste(window) for unit in cluster.units.values())


def test_a_replica_hears_at_once_that_its_session_is_dead_also_where_no_slot_is_free(replicas: Replicas) -> None:
    cluster = replicas.cluster
    (replica,) = replicas.dial(0)
    replica.cut = True
    cluster.advance(12 * SECOND_US)
    replicas.dial(1, 2, 3)
    replica.cut = False
    cluster.wait(lambda: replica.ended is not None, 2 * SECOND_US)
    assert replica.ended is not None
    assert replica.ended.code is RefusalCode.SESSION_DEAD


def test_epochs_rise_over_all_slots_so_that_no_message_is_taken_for_another_holders(replicas: Replicas) -> None:
    first, second = replicas.dial(0, 1)
    first.dialer.say_bye()
    replicas.cluster.pump()
    (third,) = replicas.dial(2)
    epochs = [first.epoch, second.epoch, third.epoch]
    assert epochs == sorted(set(epochs))
    replicas.cluster.restart()
    (fourth,) = replicas.dial(3)
    assert fourth.epoch > max(epochs)


def test_a_slot_that_was_held_is_not_held_for_the_next_one(replicas: Replicas) -> None:
    cluster = replicas.cluster
    (first,) = replicas.dial(0)
    cluster.hold("lpar-01", hold=True)
    first.dialer.say_bye()
    cluster.pump()
    (second,) = replicas.dial(1)
    assert isinstance(cluster.dlpar("lpar-01", 1), ConfigurationApplied)
    assert len(second.applied) == 1
