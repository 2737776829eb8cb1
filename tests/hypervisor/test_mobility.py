"""Migration streams: H_VASI_STATE, H_VASI_SIGNAL and H_JOIN, and the console's migration. Source: domain.md 5.7."""

from __future__ import annotations

import pytest

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import HYPERVISOR_CHOOSES, CreditType, HcallCode, VasiState
from protocol.console_messages import ChangeProcessors, ConfigurationApplied
from protocol.hcall_messages import (
    Associativity,
    ConfigurationChange,
    ConfigurationKind,
    HDeallocateVasWindow,
    HHomeNodeAssociativity,
)
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings, told
from tests.hypervisor.streams import (
    COMPLETED,
    SUSPENDING,
    begin,
    cancel,
    home_chip,
    join,
    report,
    state,
)  # fmt: skip

# The way of a migration.


def test_a_migration_is_told_as_a_generation_whose_number_is_the_stream(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    begin(cluster, hold_ms=20)
    notice = told(lp1.notices[-1], ConfigurationChange)
    assert (notice.generation, notice.kind) == (1, ConfigurationKind.MIGRATION)
    assert state(lp1) is VasiState.ENABLED


def test_the_console_is_answered_when_the_partition_has_resumed(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster)
    assert state(lp1) is SUSPENDING
    assert join(lp1) is HcallCode.H_SUCCESS
    assert state(lp1) is COMPLETED
    cluster.advance(SECOND_US)
    assert number not in cluster.console.answers
    report(lp1)
    applied = told(cluster.console.answers[number], ConfigurationApplied)
    assert (applied.lpar, applied.generation, applied.running) == ("lp1", 1, True)
    assert (applied.closed, applied.reopened) == ((7, 6), (9, 8))
    assert applied.elapsed_us == SECOND_US


def test_the_hold_begins_when_the_stream_is_first_asked_after(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    begin(cluster, hold_ms=500)
    cluster.advance(2 * SECOND_US)
    assert state(lp1) is VasiState.ENABLED
    cluster.advance(499 * MILLISECOND_US)
    assert state(lp1) is VasiState.ENABLED
    cluster.advance(MILLISECOND_US)
    assert state(lp1) is SUSPENDING


@fidelity(
    "1 hcalls",
    "H_VASI_STATE and H_VASI_SIGNAL answer H_PARAMETER for a stream that does not exist.",
    source="K:mobility.c",
)
def test_a_stream_is_its_partitions_alone_and_ends_with_its_change(cluster: Cluster) -> None:
    lp1, lp2 = cluster.lpars["lp1"], cluster.lpars["lp2"]
    begin(cluster)
    for partition, stream in ((lp1, 0), (lp1, 2), (lp2, 1)):
        assert state(partition, stream) is VasiState.INVALID
        assert join(partition, stream) is HcallCode.H_PARAMETER
        assert cancel(partition, stream) is HcallCode.H_PARAMETER
    join(lp1)
    report(lp1)
    assert state(lp1) is VasiState.INVALID
    assert join(lp1) is HcallCode.H_PARAMETER


def test_a_processor_change_is_no_stream(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.follows = False
    cluster.console.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=5_000))
    cluster.pump()
    assert state(lp1) is VasiState.INVALID
    assert join(lp1) is HcallCode.H_PARAMETER


@fidelity("5 migration", "The hypervisor migrates no partition that still has a window open.", source="ML:163d30d407")
@pytest.mark.parametrize("credit_type", list(CreditType), ids=lambda credit_type: credit_type.name)
def test_a_partition_with_a_window_is_not_moved(cluster: Cluster, credit_type: CreditType) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.qos("lp1", 2)
    window = lp1.open_window(credit_type)
    begin(cluster)
    assert state(lp1, 2) is SUSPENDING
    assert join(lp1, 2) is HcallCode.H_STATE
    assert home_chip(cluster) == 0
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert join(lp1, 2) is HcallCode.H_SUCCESS


def test_a_window_that_is_being_drained_keeps_its_partition_from_being_moved(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window()
    unit = next(unit for unit in cluster.units.values() if unit.takes_paste(window))
    unit.contexts[window.window_id].in_flight = 1
    begin(cluster)
    code = lp1.status_of(HDeallocateVasWindow(window_id=window.window_id))
    assert code.is_busy
    assert join(lp1) is HcallCode.H_STATE
    unit.complete(window.window_id)
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert join(lp1) is HcallCode.H_SUCCESS


def test_a_partition_is_not_moved_before_its_stream_is_suspending(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    begin(cluster, hold_ms=100)
    assert state(lp1) is VasiState.ENABLED
    assert join(lp1) is HcallCode.H_STATE
    cluster.advance(100 * MILLISECOND_US)
    assert join(lp1) is HcallCode.H_SUCCESS


@fidelity(
    "5 migration",
    "At the destination a partition has as many credits assigned as it had at the source, not as many as it used.",
    source="ML:b36ad1f66c",
)
def test_a_moved_partition_keeps_its_credits(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.qos("lp1", 3)
    before = cluster.pool("lp1"), cluster.pool("lp1", CreditType.QOS)
    number = begin(cluster)
    join(lp1, 2)
    report(lp1, generation=2)
    assert (cluster.pool("lp1"), cluster.pool("lp1", CreditType.QOS)) == before == ((37, 0), (3, 0))
    applied = told(cluster.console.answers[number], ConfigurationApplied)
    assert (applied.total_before, applied.total_after) == (37, 37)


# What being moved means here.


@fidelity(
    "5 migration",
    "A migrated partition runs on another system.",
    source="K:mobility.c",
    differs="There is one system: the partition gets the next chip as its home, and with one chip nothing moves.",
)
def test_a_moved_partition_has_the_next_chip_as_its_home(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    homes = [home_chip(cluster)]
    for stream in (1, 2):
        begin(cluster)
        join(lp1, stream)
        homes.append(home_chip(cluster))
        domain = told(lp1.ask(HHomeNodeAssociativity(flags=1, processor_id=0)), Associativity).domain
        assert domain[0] == homes[-1]
        window = lp1.open_window(chip=domain[0])
        assert cluster.windows()[0].unit == f"nx{homes[-1]}"
        lp1.deallocate(window.window_id)
        report(lp1, generation=stream)
    assert homes == [0, 1, 0]


def test_with_one_chip_a_partition_is_moved_to_where_it_was() -> None:
    chip = [{"number": 3, "unit": "nx3", "cores": 4}]
    cluster = Cluster(settings(chip=chip, lpar=[{"name": "lp1", "cores": 2, "home_chip": 3}])).start()
    begin(cluster)
    assert join(cluster.lpars["lp1"]) is HcallCode.H_SUCCESS
    assert home_chip(cluster) == 3


# One after the other.


def test_processors_change_after_the_migration_and_a_migration_after_the_processors(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    migration = begin(cluster)
    cores = cluster.console.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=5_000))
    again = begin(cluster)
    assert cluster.pool("lp1")[0] == 40
    join(lp1)
    assert cluster.pool("lp1")[0] == 40
    report(lp1)
    assert migration in cluster.console.answers
    assert cluster.pool("lp1")[0] == 20
    assert state(lp1, 3) is VasiState.INVALID
    report(lp1, generation=2)
    assert cores in cluster.console.answers
    assert state(lp1, 3) is SUSPENDING
    join(lp1, 3)
    report(lp1, generation=3)
    assert isinstance(cluster.console.answers[again], ConfigurationApplied)


def test_windows_may_be_allocated_while_a_stream_is_enabled(cluster: Cluster) -> None:
    """It is the kernel that refuses opens; the hypervisor only refuses to move."""
    lp1 = cluster.lpars["lp1"]
    begin(cluster, hold_ms=1_000)
    state(lp1)
    assert lp1.allocate(chip=HYPERVISOR_CHOOSES).code is HcallCode.H_SUCCESS
