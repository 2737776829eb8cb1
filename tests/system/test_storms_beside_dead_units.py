"""Bad weather and deaths while one NX unit is dead for longer than its fence: the other one's users go on."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from lpar.client import ClientError, KernelFailure, NxGzip
from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import CompletionCode, CreditType, KernelReason
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, MigratePartition, SetEntitlement
from protocol.system import SystemSettings, parse_system
from tests.processes.cluster import SYSTEM
from tests.system.story import booted, settle_and_compare
from tests.system.system import System, Weather
from tests.system.test_walks_beside_dead_units import mapped_at
from tests.system.test_weather_and_deaths import (
    DATA,
    REQUEST,
    SHARED_HUNDREDTHS,
    STORM,
    TURN_US,
    Process,
    act,
    give_back,
    works_on_the_accelerator,
)

ACTS_BEFORE = 12
ACTS_BESIDE = 24
CREDITS_PER_CORE = 20
MIGRATION_US = SECOND_US // 2
KEPT = 3
SETTLE_US = 20 * SECOND_US
AT_ONCE_US = SECOND_US // 5
IN_VAIN_S = 0.5


@pytest.fixture
def settings() -> SystemSettings:
    return parse_system(SYSTEM, "test system")


@pytest.mark.parametrize("seed", range(30))
def test_whoever_uses_the_other_unit_goes_on_through_storms(settings: SystemSettings, seed: int) -> None:
    storm_beside_a_dead_unit(settings, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_whoever_uses_the_other_unit_goes_on_through_many_storms(settings: SystemSettings) -> None:
    for seed in range(1000, 1500):
        storm_beside_a_dead_unit(settings, seed)


def storm_beside_a_dead_unit(settings: SystemSettings, seed: int) -> None:
    """A unit dies in the middle of a storm and stays dead; whoever else dies comes back within 4 s."""
    system = booted(settings, seed, turn_us=TURN_US * (seed % 2))
    random = Random(seed)
    dead = random.choice([chip.unit for chip in settings.chip])
    system.weather = STORM
    processes: list[Process] = []
    for _ in range(ACTS_BEFORE):
        act(system, random, processes, spared=dead)
    system.weather = Weather()
    fill(system, processes)
    dies_amid_a_change(system, random, dead)
    system.weather = STORM
    died_us = system.now_us
    for _ in range(ACTS_BESIDE):
        act(system, random, processes, spared=dead)
    for name in system.servers:
        if name != dead:
            system.revive(name)
    system.weather = Weather()
    system.pass_time(SETTLE_US)
    assert system.now_us - died_us > (settings.times.fence_ms + settings.times.drift_margin_ms) * MILLISECOND_US
    nobody_is_held_up(system)
    give_back(system)
    for process in processes:
        uses_the_living_unit(system, process, dead)
    for lpar in settings.lpar:
        can_be_used(system, lpar.name)
    system.revive(dead)
    settle_and_compare(system)
    bring_back(system)
    for process in processes:
        if process.lpar.is_alive:
            works_on_the_accelerator(process, random.randbytes(500) * 20)
        process.lpar.close()
    settle_and_compare(system)
    assert not system.hypervisor.ledger.windows


def fill(system: System, processes: list[Process]) -> None:
    """A process of lp1 takes what credits there are, and then a core goes: some of its windows are closed."""
    lpar = system.client("lp1")
    process = Process(lpar, "lp1", NxGzip(lpar, small_bytes=0))
    processes.append(process)
    with suppress(OSError, ClientError):
        for _ in range(2 * CREDITS_PER_CORE):
            process.windows.append((lpar.open_window(vas_id=0), False))
    with suppress(OSError, ClientError):
        system.console().ask(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=5_000))


def dies_amid_a_change(system: System, random: Random, dead: str) -> None:
    """The unit dies when windows are about to be reopened, or opened, there."""
    match random.choice(("cores", "migration", "open")):
        case "cores":
            system.kill(dead)
            change: ChangeProcessors | MigratePartition = ChangeProcessors(lpar="lp1", cores=1, wait_ms=3_000)
        case "migration":
            system.later(random.randint(1, MIGRATION_US), lambda: system.kill(dead))
            change = MigratePartition(lpar=random.choice(("lp1", "lp2")), hold_ms=0, wait_ms=3_000)
        case _:
            system.kill(dead)
            return
    with suppress(OSError, ClientError):
        system.console().ask(change)
    system.run_until(lambda: dead not in system.hosts)


def bring_back(system: System) -> None:
    """What the kernel's own rules have left closed for want of a credit or after a migration is reopened."""
    spare: tuple[tuple[ChangeProcessors | SetEntitlement, ...], ...] = (
        (_cores("lp1", 1), _cores("lp1", -1)),
        (_cores("lp2", 1), _cores("lp2", -1)),
        (_share(2 * SHARED_HUNDREDTHS), _share(SHARED_HUNDREDTHS)),
    )
    for lpar, changes in zip(system.settings.lpar, spare, strict=True):
        migration = MigratePartition(lpar=lpar.name, hold_ms=0, wait_ms=60_000)
        for change in (migration, *changes):
            applied = system.console().ask(change)
            assert isinstance(applied, ConfigurationApplied), (change, applied)
    settle_and_compare(system)


def _cores(lpar: str, cores: int) -> ChangeProcessors:
    return ChangeProcessors(lpar=lpar, cores=cores, wait_ms=60_000)


def _share(hundredths: int) -> SetEntitlement:
    return SetEntitlement(lpar="lp3", hundredths=hundredths, wait_ms=60_000)


def nobody_is_held_up(system: System) -> None:
    """No partition waits for the dead unit: its fence is over."""
    for lpar in system.settings.lpar:
        driver = system.kernel(lpar.name).kernel.driver
        under_way = {pool.credit_type.name: pool.progress for pool in driver.pools.values() if pool.progress}
        assert (driver.mutex.holder, driver.operations, under_way) == (None, 0, {}), lpar.name


def can_be_used(system: System, lpar: str) -> None:
    """A new process opens, pastes and closes, and waits for nothing; without a credit it is told so at once."""
    client = system.client(lpar)
    began_us = system.now_us
    pool = system.kernel(lpar).kernel.driver.pools[CreditType.DEFAULT]
    if pool.used < pool.total and not pool.nr_close:
        window = client.open_window(vas_id=0)
        assert window.run(REQUEST).code is CompletionCode.OK
        window.close()
    else:
        with pytest.raises(KernelFailure) as refused:
            client.open_window(vas_id=0)
        assert refused.value.reason in (KernelReason.NO_CREDIT, KernelReason.CLOSED_WINDOWS)
    assert system.now_us - began_us <= AT_ONCE_US
    gzip = NxGzip(client, small_bytes=0)
    assert gzip.decompress(gzip.compress(DATA)) == DATA
    client.close()


def uses_the_living_unit(system: System, process: Process, dead: str) -> None:
    """Its windows at the living unit work; all others close at once, those at the dead unit too.

    A window that has moved is pasted to where it was once more, in vain, before the kernel is asked where it is.
    """
    if not process.lpar.is_alive:
        return
    places = {window.window_id: window.unit for window in system.hypervisor.ledger.windows.values()}
    pools = system.kernel(process.partition).kernel.driver.pools.values()
    active = {
        window.descriptor: places[window.window_id]
        for pool in pools
        for window in pool.newest_first()
        if window.pid == process.lpar.pid and window.is_active
    }
    for window, qos in list(process.windows):
        descriptor = window._state.descriptor.number
        began_us = system.now_us
        crowded = len(process.windows) > KEPT
        if crowded or active.get(descriptor, dead) == dead:
            window.close()
            process.windows.remove((window, qos))
        else:
            if mapped_at(window) == dead:
                with pytest.raises(TimeoutError):
                    window.run(REQUEST, IN_VAIN_S)
                began_us = system.now_us
            assert window.run(REQUEST).code is CompletionCode.OK
        assert system.now_us - began_us <= AT_ONCE_US
