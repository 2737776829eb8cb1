"""Partitions that migrate under load, while messages are lost and processes die in the middle of it."""

from __future__ import annotations

import errno
from random import Random

import pytest

from hmc.requests import ConsoleRequests
from lpar.client import Lpar, NxGzip, Request, Window
from protocol.codes import CompletionCode, CreditType, FunctionCode
from protocol.console_messages import ConfigurationApplied, ConsoleFailure, MigratePartition, SetQosCredits
from protocol.message import Reply
from protocol.session_messages import Refused
from protocol.system import SystemSettings, parse_system
from tests.fidelity.rows import fidelity
from tests.processes.cluster import SYSTEM
from tests.system.actors import as_reply
from tests.system.story import booted, settle_and_compare
from tests.system.system import System, Weather

DATA = b"bytes of a partition on the move, " * 300
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
STORM = Weather(loss=0.1, repeat=0.1, late=0.1)
HOLD_MS = 800
WINDOWS, QOS_WINDOWS = 12, 4


@pytest.fixture
def settings() -> SystemSettings:
    return parse_system(SYSTEM, "test system")


class Migration:
    """A migration that the console has asked for. A console may lose its session with a dead hypervisor."""

    def __init__(self, system: System, hold_ms: int = HOLD_MS, wait_ms: int = 60_000, lpar: str = "lp1") -> None:
        self.system = system
        self.lpar = lpar
        console = system.console()
        self.core: ConsoleRequests = console.host.core
        self.number = self.core.ask(MigratePartition(lpar=lpar, hold_ms=hold_ms, wait_ms=wait_ms), system.now_us)
        system.settle(console.host)

    @property
    def is_over(self) -> bool:
        return self.number in self.core.answers or self.core.ended is not None

    def answer(self) -> Reply | Refused:
        """The console's answer when the partition has no change left to apply."""
        self.system.run_until(lambda: self.is_over)
        self.system.run_until(lambda: not self.system.hypervisor.configurations.queues.get(self.lpar))
        return self.core.ended or as_reply(self.core.answers[self.number])

    def is_under_way(self) -> bool:
        """Whether the kernel has closed its windows."""
        return self.system.kernel(self.lpar).kernel.driver.migrating


def furnished(settings: SystemSettings, seed: int) -> tuple[System, Lpar, list[Window]]:
    """A system with windows of both types on lp1, all mapped."""
    system = booted(settings, seed)
    assert isinstance(system.console().ask(SetQosCredits(lpar="lp1", credits=8, wait_ms=3_000)), ConfigurationApplied)
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(WINDOWS)]
    windows += [lpar.open_window(qos=True) for _ in range(QOS_WINDOWS)]
    for window in windows:
        window.map()
    return system, lpar, windows


def credits(system: System) -> dict[CreditType, tuple[int, int]]:
    """Of each type on lp1: what the hypervisor assigns, and what the kernel counts as used."""
    ledger, pools = system.hypervisor.ledger, system.kernel("lp1").kernel.driver.pools
    return {kind: (ledger.target(ledger.partitions["lp1"], kind), pools[kind].used) for kind in CreditType}


def totals(system: System) -> dict[CreditType, int]:
    """What lp1's kernel takes for its credits."""
    return {kind: pool.total for kind, pool in system.kernel("lp1").kernel.driver.pools.items()}


def in_use(system: System) -> int:
    return sum(system.hypervisor.ledger.in_use("lp1", kind) for kind in CreditType)


@fidelity(
    "5 migration",
    "At the destination a partition has as many credits assigned as it had at the source, not as many as it used.",
    source="ML:b36ad1f66c",
)
def test_a_partition_migrates_with_its_credits_and_every_window_works_afterwards(settings: SystemSettings) -> None:
    system, _lpar, windows = furnished(settings, 1)
    before, ids = credits(system), set(system.contexts())
    migration = Migration(system)
    system.run_until(lambda: in_use(system) == 0)
    assert credits(system) == before, "closed windows count as used"
    assert totals(system)[CreditType.DEFAULT] == 40, "the kernel has not asked since QoS credits were taken off"
    applied = migration.answer()
    assert isinstance(applied, ConfigurationApplied)
    assert set(applied.closed) == ids
    assert len(applied.reopened) == WINDOWS + QOS_WINDOWS
    assert not ids & set(applied.reopened)
    assert applied.elapsed_us >= HOLD_MS * 1000
    assert credits(system) == before
    assert totals(system) == {CreditType.DEFAULT: 32, CreditType.QOS: 8}
    assert system.hypervisor.ledger.partitions["lp1"].home_chip == 1
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)
    settle_and_compare(system)


@pytest.mark.parametrize("seed", range(10))
def test_a_migration_in_bad_weather_with_a_hypervisor_that_dies_costs_nothing(
    settings: SystemSettings, seed: int
) -> None:
    system, lpar, windows = furnished(settings, 100 + seed)
    random, nx, before = Random(seed), NxGzip(lpar, small_bytes=0), credits(system)
    system.weather = STORM
    migration = Migration(system)
    system.run_until(migration.is_under_way)
    system.later(random.randint(0, 1_200_000), lambda: system.kill("hypervisor"))
    system.later(random.randint(1_300_000, 4_000_000), lambda: system.revive("hypervisor"))
    rounds = 0
    while not migration.is_over:
        assert nx.decompress(nx.compress(DATA)) == DATA
        system.pass_time(10_000)
        rounds += 1
    assert rounds
    assert isinstance(migration.answer(), ConfigurationApplied | Refused)
    nx.close()
    assert system.hypervisor.ledger.partitions["lp1"].home_chip == 1
    settle_and_compare(system)
    assert credits(system) == before
    assert in_use(system) == WINDOWS + QOS_WINDOWS
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)


@pytest.mark.parametrize("seed", range(6))
def test_a_partition_that_dies_while_it_migrates_leaves_no_credit_in_use(settings: SystemSettings, seed: int) -> None:
    system, lpar, _windows = furnished(settings, 200 + seed)
    system.weather = STORM
    migration = Migration(system)
    system.pass_time(Random(seed).randint(0, 1_500_000))
    over = migration.is_over
    system.kill("lp1")
    lpar.close()
    system.run_until(lambda: in_use(system) == 0)
    answer = migration.answer()
    assert isinstance(answer, ConsoleFailure | ConfigurationApplied)
    if isinstance(answer, ConsoleFailure):
        assert answer.code == "not_migrated"
    else:
        assert over or not answer.running, "it was moved before it died"
    system.start_lpar("lp1")
    system.run_until(lambda: system.kernel("lp1").kernel.booted)
    settle_and_compare(system)
    assert not system.kernel("lp1").kernel.driver.migrating
    assert isinstance(Migration(system, hold_ms=0).answer(), ConfigurationApplied)


@pytest.mark.parametrize("seed", range(4))
def test_a_migration_that_is_given_up_reopens_the_windows_where_the_partition_is(
    settings: SystemSettings, seed: int
) -> None:
    system, _lpar, windows = furnished(settings, 300 + seed)
    before = credits(system)
    system.weather = STORM
    migration = Migration(system, hold_ms=2_000, wait_ms=2_000)
    answer = migration.answer()
    assert isinstance(answer, ConsoleFailure)
    assert answer.code == "timeout"
    settle_and_compare(system)
    assert credits(system) == before
    assert in_use(system) == WINDOWS + QOS_WINDOWS
    assert system.hypervisor.ledger.partitions["lp1"].home_chip == 0
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)


def test_the_target_of_the_hypervisor_outlasts_qos_credits_written_during_a_migration(settings: SystemSettings) -> None:
    """A process of the partition wrote them, of which the hypervisor has not heard."""
    system, lpar, _windows = furnished(settings, 2)
    migration = Migration(system)
    system.run_until(lambda: in_use(system) == 0)
    lpar.write("/sys/devices/virtual/misc/vas/vas0/gzip/qos_capabilities/update_total_credits", "2")
    assert totals(system)[CreditType.QOS] == 2
    assert isinstance(migration.answer(), ConfigurationApplied)
    assert totals(system)[CreditType.QOS] == 8
    settle_and_compare(system)


def test_a_partition_that_migrates_does_not_change_its_own_entitlement(settings: SystemSettings) -> None:
    system = booted(settings, 3)
    lpar = system.client("lp3")
    migration = Migration(system, lpar="lp3")
    system.run_until(migration.is_under_way)
    with pytest.raises(OSError, match="H_BUSY") as refused:
        lpar.write("/proc/powerpc/lparcfg", "partition_entitled_capacity=20\n")
    assert refused.value.errno == errno.EBUSY
    assert isinstance(migration.answer(), ConfigurationApplied)
    lpar.write("/proc/powerpc/lparcfg", "partition_entitled_capacity=20\n")
    assert system.hypervisor.ledger.partitions["lp3"].hundredths == 20
