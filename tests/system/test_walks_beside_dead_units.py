"""A unit dies or hangs while the driver walks over its windows: the partition's other windows go on being used."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lpar.client import KernelFailure, Lpar, Window
from protocol.clock import SECOND_US
from protocol.codes import CompletionCode, KernelReason
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    MigratePartition,
    SetQosCredits,
)
from protocol.system import ReopenPolicy, SystemSettings
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.system.deaths import REQUEST, SETTINGS, in_use, up
from tests.system.standstill import StandstillSystem
from tests.system.story import settle_and_compare
from tests.system.test_hung_units import FENCE_US, SUSPECTED_US
from tests.system.test_restart_beside_dead_unit import ANY
from tests.system.test_unit_deaths import find, lose

CREDITS = 40
PER_CORE = 20
EAGER = SETTINGS.model_copy(update={"reopen": ReopenPolicy.EAGER})
AT_ONCE_US = SECOND_US // 10


def cores(system: StandstillSystem, count: int, wait_ms: int = 60_000) -> ConfigurationApplied | ConsoleFailure:
    """Add or remove cores of lp1, whose chip is 0, and wait for what becomes of that."""
    answer = system.console().ask(ChangeProcessors(lpar="lp1", cores=count, wait_ms=wait_ms))
    assert isinstance(answer, ConfigurationApplied | ConsoleFailure)
    return answer


def crowd(system: StandstillSystem) -> None:
    """lp2 fills nx1 as far as it can, so that the next windows are placed at nx0."""
    other = system.client("lp2", timeout=60)
    for _ in range(PER_CORE):
        other.open_window()
    assert set(system.contexts().values()) == {"nx1"}


def took_us(system: StandstillSystem, do: Callable[[], object]) -> int:
    began_us = system.now_us
    do()
    return system.now_us - began_us


def opens_and_closes_at_once(system: StandstillSystem, lpar: Lpar) -> None:
    """A user of the unit that lives waits for nothing."""

    def work() -> None:
        window = lpar.open_window(vas_id=ANY)
        assert window.run(REQUEST).code is CompletionCode.OK
        window.close()

    assert took_us(system, work) <= AT_ONCE_US


def mapped_at(window: Window) -> str:
    """The unit that its process's page table names."""
    mapping = window._state.mapping
    return mapping.address.unit if mapping is not None and mapping.address is not None else ""


def migrate_and_lose_nx0(system: StandstillSystem) -> object:
    """lp1 is migrated, and nx0 dies while it is held: its windows are closed, and are to be reopened next."""
    system.later(2 * SECOND_US, lambda: system.kill("nx0"))
    return system.console().ask(MigratePartition(lpar="lp1", hold_ms=3_000, wait_ms=60_000))


def closed_windows(system: StandstillSystem) -> int:
    pools = system.kernel("lp1").kernel.driver.pools.values()
    return sum(not window.is_active for pool in pools for window in pool.newest_first())


@failure(
    "nxunit",
    "killed or hung while windows are reopened there after processors were added",
    seen="That change and others' opens and closes wait; then the windows are at another unit.",
    lasts="3 s, until the unit is suspected.",
    kept="Every window. The credit of what was allocated at the unit is nobody's until its fence is over.",
)
@pytest.mark.parametrize("settings", [SETTINGS, EAGER], ids=["kernel", "eager"])
@pytest.mark.parametrize("how", ["killed", "stop", "cut"])
def test_windows_are_reopened_elsewhere_when_their_unit_dies(
    how: str, settings: SystemSettings, figure: Figure
) -> None:
    system = up(3, settings)
    lpar, other = system.client("lp1", timeout=60), system.client("lp1", timeout=60)
    crowd(system)
    windows = [lpar.open_window(vas_id=ANY) for _ in range(PER_CORE + 2)]
    assert isinstance(cores(system, -1), ConfigurationApplied)
    assert closed_windows(system) == 2
    lose(system, how, "nx0")
    lost_us = system.now_us
    applied = cores(system, 1)
    assert isinstance(applied, ConfigurationApplied)
    assert len(applied.reopened) == 2
    figure("unit lost to windows reopened at another one", (system.now_us - lost_us) / SECOND_US, "s")
    assert system.now_us - lost_us <= SUSPECTED_US
    for window in windows[-2:]:
        assert window.run(REQUEST).code is CompletionCode.OK
    opens_and_closes_at_once(system, other)
    assert in_use(system) == PER_CORE + 3, "the unit may have the context that was asked for"
    system.run_until(lambda: in_use(system) == PER_CORE + 2, limit_us=FENCE_US + SECOND_US)
    find(system, how, "nx0")
    settle_and_compare(system)


@pytest.mark.parametrize("how", ["killed", "stop"])
def test_a_mapped_window_that_was_reopened_elsewhere_works_after_one_request_in_vain(how: str) -> None:
    system = up(3, SETTINGS)
    lpar = system.client("lp1", timeout=60)
    crowd(system)
    windows = [lpar.open_window(vas_id=ANY) for _ in range(PER_CORE + 2)]
    for window in windows:
        assert window.run(REQUEST).code is CompletionCode.OK
    assert isinstance(cores(system, -1), ConfigurationApplied)
    lose(system, how, "nx0")
    assert isinstance(cores(system, 1), ConfigurationApplied)
    moved = [window for window in windows[-2:] if mapped_at(window) == "nx0"]
    assert moved
    for window in moved:
        with pytest.raises(TimeoutError):
            window.run(REQUEST, 1)
        assert window.run(REQUEST, 1).code is CompletionCode.OK
        assert mapped_at(window) == "nx1"
    find(system, how, "nx0")
    settle_and_compare(system)


@pytest.mark.parametrize("settings", [SETTINGS, EAGER], ids=["kernel", "eager"])
def test_without_a_credit_to_spare_a_window_comes_back_when_the_dead_unit_has_fenced_itself(
    settings: SystemSettings,
) -> None:
    system = up(3, settings)
    lpar, other = system.client("lp1", timeout=60), system.client("lp1", timeout=60)
    crowd(system)
    windows = [lpar.open_window(vas_id=ANY) for _ in range(CREDITS)]
    assert isinstance(cores(system, -1), ConfigurationApplied)
    system.kill("nx0")
    lost_us = system.now_us
    refused = cores(system, 1)
    assert isinstance(refused, ConsoleFailure)
    assert "H_RESOURCE" in refused.text
    assert (closed_windows(system), in_use(system)) == (1, CREDITS)
    with pytest.raises(KernelFailure) as failed:
        other.open_window(vas_id=ANY)
    assert failed.value.reason is KernelReason.NO_CREDIT, "the credit is nobody's"
    system.run_until(lambda: closed_windows(system) == 0, limit_us=FENCE_US + SECOND_US)
    assert system.now_us - lost_us <= FENCE_US + SECOND_US
    assert in_use(system) == CREDITS
    windows[0].close()
    opens_and_closes_at_once(system, other)
    system.revive("nx0")
    settle_and_compare(system)


def test_a_migrated_partitions_windows_are_reopened_elsewhere_when_their_unit_dies() -> None:
    system = up(3)
    lpar, other = system.client("lp1", timeout=60), system.client("lp1", timeout=60)
    crowd(system)
    windows = [lpar.open_window() for _ in range(4)]
    answer = migrate_and_lose_nx0(system)
    assert isinstance(answer, ConfigurationApplied)
    assert len(answer.reopened) == 4
    for window in windows:
        assert window.run(REQUEST).code is CompletionCode.OK
    opens_and_closes_at_once(system, other)
    system.revive("nx0")
    settle_and_compare(system)


def test_windows_closed_by_a_migration_come_back_when_the_dead_unit_has_fenced_itself() -> None:
    """The kernel leaves what a resume could not reopen to the next migration; a dead unit is no reason for that."""
    system = up(3)
    lpar = system.client("lp1", timeout=60)
    crowd(system)
    windows = [lpar.open_window() for _ in range(CREDITS)]
    migrate_and_lose_nx0(system)
    assert closed_windows(system) == 1
    system.run_until(lambda: closed_windows(system) == 0, limit_us=FENCE_US + SECOND_US)
    for window in windows:
        assert window.run(REQUEST).code is CompletionCode.OK
    system.revive("nx0")
    settle_and_compare(system)


@failure(
    "nxunit",
    "hung or cut off while a core removal or a migration closes windows there",
    seen="That change waits, and with it every open and close of the partition, as behind the kernel's mutex. "
    "Opens end by their deadline with EIO, reason hcall_busy. Pastes at other units go on.",
    lasts="Until the unit is back, or its fence of 30.1 s is over.",
    kept="The order in which windows are closed, and the credits: none is given away before its window is closed.",
)
@pytest.mark.parametrize("how", ["stop", "cut"])
def test_a_core_removal_at_a_hung_unit_holds_the_partition_up_to_the_units_fence(how: str, figure: Figure) -> None:
    system = up(3)
    lpar, neighbour = system.client("lp1", timeout=60), system.client("lp2", timeout=60)
    windows = [lpar.open_window()]
    elsewhere = lpar.open_window(vas_id=ANY)
    windows += [lpar.open_window() for _ in range(PER_CORE + 4)]
    assert sorted(system.contexts().values()).count("nx1") == 1
    lose(system, how, "nx0")
    lost_us = system.now_us
    system.pass_time(SUSPECTED_US)
    pending = cores(system, -1, wait_ms=1_000)
    assert isinstance(pending, ConsoleFailure)
    assert "acknowledge" in pending.text
    opens_and_closes_at_once(system, neighbour)
    elsewhere.close()
    took_s = (system.now_us - lost_us) / SECOND_US
    figure("unit lost to a close elsewhere behind a core removal", took_s, "s")
    assert system.now_us - lost_us <= FENCE_US + SECOND_US
    find(system, how, "nx0")
    settle_and_compare(system)


@pytest.mark.parametrize("settings", [SETTINGS, EAGER], ids=["kernel", "eager"])
def test_a_window_that_waits_for_its_credit_through_a_migration_comes_back(settings: SystemSettings) -> None:
    system = up(3, settings)
    lpar, other = system.client("lp1", timeout=60), system.client("lp1", timeout=60)
    crowd(system)
    windows = [lpar.open_window(vas_id=ANY) for _ in range(CREDITS)]
    assert isinstance(cores(system, -1), ConfigurationApplied)
    system.kill("nx0")
    assert isinstance(cores(system, 1), ConsoleFailure)
    system.console().ask(MigratePartition(lpar="lp1", hold_ms=1_000, wait_ms=120_000))
    system.run_until(lambda: closed_windows(system) == 0, limit_us=2 * FENCE_US)
    windows[0].close()
    opens_and_closes_at_once(system, other)
    system.revive("nx0")
    settle_and_compare(system)


def test_windows_of_the_other_type_are_reopened_where_one_type_waits_for_a_unit() -> None:
    system = up(3)
    lpar = system.client("lp1", timeout=60)
    crowd(system)
    assert isinstance(system.console().ask(SetQosCredits(lpar="lp1", credits=4, wait_ms=10_000)), ConfigurationApplied)
    guaranteed = [lpar.open_window(qos=True, vas_id=ANY) for _ in range(4)]
    windows = [lpar.open_window() for _ in range(4)]
    migrate_and_lose_nx0(system)
    system.run_until(lambda: closed_windows(system) == 0, limit_us=2 * FENCE_US)
    for window in [*guaranteed, *windows]:
        assert window.run(REQUEST).code is CompletionCode.OK
    opens_and_closes_at_once(system, lpar)
    system.revive("nx0")
    settle_and_compare(system)
