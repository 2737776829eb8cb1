"""Changes of a partition's configuration: one at a time, as drmgr serialises them. Source: domain.md 5.6 and 6."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, ConsoleFailure
from protocol.hcall_messages import (
    Configuration,
    ConfigurationChange,
    ConfigurationKind,
    QueryConfiguration,
    Reconfigured,
)
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, told
from tests.hypervisor.fake_lpar import FakeLpar, refuse


def slow(cluster: Cluster, lpar: str = "lp1") -> FakeLpar:
    """A partition that is told of its changes and takes its time."""
    partition = cluster.lpars[lpar]
    partition.follows = False
    return partition


def changes(partition: FakeLpar) -> list[int]:
    """The generations that the partition was told of by notices."""
    return [notice.generation for notice in partition.notices if isinstance(notice, ConfigurationChange)]


def remove_core(cluster: Cluster, lpar: str = "lp1", wait_ms: int = 5_000, cores: int = -1) -> int:
    number = cluster.console.send(ChangeProcessors(lpar=lpar, cores=cores, wait_ms=wait_ms))
    cluster.pump()
    return number


def report(partition: FakeLpar, generation: int, *, accepted: bool = True) -> None:
    partition.ask(Reconfigured(generation=generation, accepted=accepted, closed=(7, 6), reopened=(9,)))
    partition.generation = generation
    partition.cluster.pump()


def asked(partition: FakeLpar, generation: int) -> Configuration:
    return told(partition.ask(QueryConfiguration(generation=generation)), Configuration)


# One change.


def test_the_console_is_answered_when_the_partition_has_reconfigured(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    number = remove_core(cluster)
    assert number not in cluster.console.answers
    cluster.advance(1_500_000)
    report(lp1, 1)
    applied = told(cluster.console.answers[number], ConfigurationApplied)
    assert (applied.lpar, applied.generation, applied.running) == ("lp1", 1, True)
    assert (applied.total_before, applied.total_after) == (40, 20)
    assert (applied.closed, applied.reopened) == ((7, 6), (9,))
    assert applied.elapsed_us == 1_500_000


@fidelity(
    "5 triggers",
    "Processor changes reach the hypervisor first: the target is lowered before the kernel knows.",
    source="K:vas.c",
)
def test_the_target_is_lowered_before_the_partition_knows(cluster: Cluster) -> None:
    slow(cluster)
    remove_core(cluster)
    assert cluster.pool("lp1") == (20, 0)
    status = cluster.lpar_status("lp1")
    assert (status.cores, status.generation, status.acknowledged) == (1, 1, 0)


@fidelity(
    "1 over-use",
    "When a partition loses credits the hypervisor revokes no window: requests on all of them keep working until "
    "the operating system closes them.",
    source="ML:b36ad1f66c",
)
def test_nothing_is_revoked_when_a_target_is_lowered(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    windows = [lp1.open_window() for _ in range(40)]
    remove_core(cluster)
    cluster.advance(60 * SECOND_US)
    assert cluster.pool("lp1") == (20, 40)
    units = cluster.units.values()
    assert all(any(unit.takes_paste(window) for unit in units) for window in windows)


def test_a_partition_is_told_what_changed_and_how_much(cluster: Cluster) -> None:
    cluster.dlpar("lp1", -1)
    cluster.qos("lp1", 3)
    cluster.entitle("lp3", 60)
    assert [(c.generation, c.kind, c.amount) for c in cluster.lpars["lp1"].applied] == [
        (1, ConfigurationKind.CPU, 0),
        (2, ConfigurationKind.QOS, 3),
    ]
    assert [(c.generation, c.kind, c.amount) for c in cluster.lpars["lp3"].applied] == [
        (1, ConfigurationKind.ENTITLEMENT, 60)
    ]


def test_a_partition_that_missed_the_notice_learns_of_the_change_by_its_beat(cluster: Cluster) -> None:
    cluster.loses = lambda _name, body: isinstance(body, ConfigurationChange)
    assert isinstance(cluster.dlpar("lp1", -1), ConfigurationApplied)
    assert [change.generation for change in cluster.lpars["lp1"].applied] == [1]


def test_a_partition_that_refuses_a_processor_change_is_named_and_the_change_stands(cluster: Cluster) -> None:
    cluster.lpars["lp1"].verdict = refuse
    refused = told(cluster.dlpar("lp1", -1), ConsoleFailure)
    assert refused.code == "os_refused"
    assert "rc 22" in refused.text
    assert "stands" in refused.advice
    assert cluster.pool("lp1")[0] == 20


def test_the_longest_error_that_a_partition_can_report_reaches_the_console(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    number = remove_core(cluster)
    lp1.ask(Reconfigured(generation=1, accepted=False, error="e" * 65_536))
    cluster.pump()
    assert told(cluster.console.answers[number], ConsoleFailure).code == "os_refused"


def test_a_report_nobody_asked_for_changes_nothing(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    report(lp1, 99)
    status = cluster.lpar_status("lp1")
    assert (status.generation, status.acknowledged) == (0, 0)
    number = remove_core(cluster)
    report(lp1, 99)
    assert number not in cluster.console.answers
    report(lp1, 1)
    assert number in cluster.console.answers


# One after the other.


def test_the_next_change_waits_for_the_acknowledgement_of_this_one(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    first = remove_core(cluster)
    second = remove_core(cluster, cores=+1)
    assert cluster.lpar_status("lp1").cores == 1
    assert changes(lp1) == [1]
    report(lp1, 1)
    assert first in cluster.console.answers
    assert second not in cluster.console.answers
    assert cluster.lpar_status("lp1").cores == 2
    assert changes(lp1) == [1, 2]
    report(lp1, 2)
    assert told(cluster.console.answers[second], ConfigurationApplied).total_after == 40


def test_the_next_change_waits_for_the_death_of_the_partition(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    first, second = remove_core(cluster, wait_ms=60_000), remove_core(cluster, wait_ms=60_000, cores=+2)
    lp1.die()
    cluster.advance(11 * SECOND_US)
    for number, total in ((first, 20), (second, 60)):
        applied = told(cluster.console.answers[number], ConfigurationApplied)
        assert (applied.running, applied.total_after) == (False, total)
    status = cluster.lpar_status("lp1")
    assert (status.generation, status.acknowledged) == (2, 2)


def test_the_next_change_waits_for_the_end_of_this_ones_wait(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    first, second = remove_core(cluster, wait_ms=1_000), remove_core(cluster, wait_ms=5_000, cores=+1)
    cluster.advance(999_000)
    assert changes(lp1) == [1]
    cluster.advance(1_000)
    expired = told(cluster.console.answers[first], ConsoleFailure)
    assert (expired.code, changes(lp1)) == ("timeout", [1, 2])
    assert "stands" in expired.advice
    report(lp1, 2)
    assert told(cluster.console.answers[second], ConfigurationApplied).total_after == 40


def test_a_change_whose_wait_ends_in_the_queue_changes_nothing(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    remove_core(cluster, wait_ms=10_000)
    second = remove_core(cluster, wait_ms=1_000, cores=+1)
    cluster.advance(1_000_000)
    expired = told(cluster.console.answers[second], ConsoleFailure)
    assert (expired.code, "nothing was changed" in expired.advice) == ("timeout", True)
    report(lp1, 1)
    assert (cluster.lpar_status("lp1").cores, changes(lp1)) == (1, [1])


@pytest.mark.parametrize("cores", [+1, +99])
def test_of_two_waits_that_end_together_the_queued_change_does_nothing(cluster: Cluster, cores: int) -> None:
    lp1 = slow(cluster)
    remove_core(cluster, wait_ms=1_000)
    second = remove_core(cluster, wait_ms=1_000, cores=cores)
    cluster.advance(2 * SECOND_US)
    assert told(cluster.console.answers[second], ConsoleFailure).code == "timeout"
    assert (cluster.lpar_status("lp1").cores, changes(lp1)) == (1, [1])


def test_partitions_do_not_wait_for_each_other(cluster: Cluster) -> None:
    slow(cluster, "lp1")
    remove_core(cluster)
    assert isinstance(cluster.dlpar("lp2", -1), ConfigurationApplied)


def test_a_partition_has_at_most_sixty_four_changes_waiting(cluster: Cluster) -> None:
    slow(cluster)
    consoles = [cluster.new_console(f"other-{number}") for number in range(2)]
    numbers = [[c.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=5_000)) for _ in range(33)] for c in consoles]
    cluster.pump()
    failures = [c.answers[n] for c, ns in zip(consoles, numbers, strict=True) for n in ns if n in c.answers]
    assert [told(failure, ConsoleFailure).code for failure in failures] == ["queue_full"] * 2


def test_a_long_queue_is_worked_off_when_the_partition_dies(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    numbers = [remove_core(cluster, wait_ms=60_000, cores=(-1) ** n) for n in range(1, 61)]
    lp1.die()
    cluster.advance(11 * SECOND_US)
    assert all(isinstance(cluster.console.answers[number], ConfigurationApplied) for number in numbers)
    assert cluster.lpar_status("lp1").generation == 60


# A change whose wait has expired stands, and the partition still has to hear of it.


def test_a_partition_that_hears_of_its_change_late_applies_it(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.cut = True
    number = remove_core(cluster, wait_ms=1_000)
    cluster.advance(2 * SECOND_US)
    assert told(cluster.console.answers[number], ConsoleFailure).code == "timeout"
    lp1.cut = False
    cluster.advance(5 * SECOND_US)
    assert [change.kind for change in lp1.applied] == [ConfigurationKind.CPU]
    assert cluster.lpar_status("lp1").acknowledged == 1


def test_changes_heard_of_late_come_in_order(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.cut = True
    remove_core(cluster, wait_ms=1_000)
    cluster.advance(1_500_000)
    number = remove_core(cluster, wait_ms=20_000, cores=+2)
    lp1.cut = False
    cluster.advance(5 * SECOND_US)
    assert [change.generation for change in lp1.applied] == [1, 2]
    assert isinstance(cluster.console.answers[number], ConfigurationApplied)


def test_a_late_change_is_still_told_after_a_restart(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.cut = True
    remove_core(cluster, wait_ms=1_000)
    cluster.advance(2 * SECOND_US)
    cluster.restart()
    lp1.cut = False
    cluster.advance(5 * SECOND_US)
    assert [change.generation for change in lp1.applied] == [1]


def test_a_change_is_asked_for_once(cluster: Cluster) -> None:
    lp1 = slow(cluster)
    remove_core(cluster, wait_ms=1_000)
    cluster.advance(2 * SECOND_US)
    change = asked(lp1, 0).change
    assert change is not None
    assert asked(lp1, change.generation).change is None
    report(lp1, change.generation)
    assert asked(lp1, 1).change is None
    assert asked(lp1, 0).change is None
