"""A partition changes its own entitlement while the network fails and processes die: nothing is lost or doubled."""

from __future__ import annotations

import pytest

from lpar.client import KernelFailure
from protocol.codes import CreditType, HcallCode
from protocol.console_messages import SetEntitlement
from protocol.system import SystemSettings, parse_system
from tests.fidelity.rows import fidelity
from tests.processes.cluster import SYSTEM
from tests.system.story import booted, settle_and_compare
from tests.system.system import System, Weather

LPARCFG = "/proc/powerpc/lparcfg"
STORM = Weather(loss=0.1, repeat=0.1, late=0.1)


@pytest.fixture
def settings() -> SystemSettings:
    """lp3 is shared, with 50 hundredths and 10 credits."""
    return parse_system(SYSTEM, "test system")


def capacity(hundredths: int) -> str:
    return f"partition_entitled_capacity={hundredths}\n"


def agreed(system: System) -> tuple[int, str]:
    """The entitlement in the hypervisor's ledger, and what the partition shows of its own."""
    settle_and_compare(system)
    return system.hypervisor.ledger.partitions["lp3"].hundredths, system.client("lp3").read(LPARCFG).splitlines()[-1]


@fidelity(
    "5 triggers",
    "Less entitled capacity written to lparcfg closes the newest windows, more reopens the oldest of the closed ones.",
    source="ML:be35124103",
)
def test_windows_follow_the_capacity_that_the_partition_writes(settings: SystemSettings) -> None:
    system = booted(settings, 21)
    process = system.client("lp3")
    windows = [process.open_window() for _ in range(10)]
    ids = [window.window_id for window in windows]
    process.write(LPARCFG, capacity(25))
    active = {window.window_id for window in system.hypervisor.ledger.windows.values()}
    assert active == set(ids[:5])
    process.write(LPARCFG, capacity(35))
    listing = process.read("/sys/kernel/debug/vasbus/windows").splitlines()[1:]
    assert [line.split()[3] for line in listing] == ["no_cred_close"] * 3 + ["active"] * 7
    process.write(LPARCFG, capacity(50))
    assert agreed(system) == (50, "partition_entitled_capacity=50")


@pytest.mark.parametrize("seed", range(12))
def test_a_hypervisor_killed_in_the_middle_of_a_write_neither_loses_nor_doubles_it(
    settings: SystemSettings, seed: int
) -> None:
    system = booted(settings, seed)
    process = system.client("lp3")
    for _ in range(10):
        process.open_window()
    system.weather = STORM
    restarted: list[int] = []

    def restart() -> None:
        system.kill("hypervisor")
        system.start_hypervisor()
        restarted.append(system.now_us)

    system.later(system.random.randint(0, 4_000), restart)
    for wanted in (25, 45, 30):
        process.write(LPARCFG, capacity(wanted))
    assert restarted
    assert agreed(system) == (30, "partition_entitled_capacity=30")
    assert system.hypervisor.ledger.in_use("lp3", CreditType.DEFAULT) == 6


def both_change(settings: SystemSettings, seed: int, weather: Weather) -> tuple[bool, int]:
    """The console sets 40 hundredths and the partition 20: whether it was told busy, and what is stored and shown."""
    system = booted(settings, seed)
    console, process = system.console(), system.client("lp3")
    for _ in range(10):
        process.open_window()
    system.weather = weather
    core, busy = console.host.core, False
    number = core.ask(SetEntitlement(lpar="lp3", hundredths=40, wait_ms=10_000), system.now_us)
    system.settle(console.host)
    system.pass_time(system.random.randint(0, 3_000))
    try:
        process.write(LPARCFG, capacity(20))
    except KernelFailure as failure:
        busy = failure.hcall is HcallCode.H_BUSY
    system.run_until(lambda: number in core.answers)
    stored, shown = agreed(system)
    assert shown == f"partition_entitled_capacity={stored}"
    assert stored == 40 if busy else stored in (20, 40)
    return busy, stored


def test_a_writer_and_the_console_may_disagree_but_everybody_knows_the_same(settings: SystemSettings) -> None:
    """Whoever comes second is told busy, or comes after the other."""
    outcomes = {both_change(settings, seed, Weather()) for seed in range(12)}
    assert (True, 40) in outcomes
    assert (False, 20) in outcomes


@pytest.mark.parametrize("seed", range(20))
def test_what_a_partition_shows_is_what_is_stored_also_after_losses(settings: SystemSettings, seed: int) -> None:
    both_change(settings, seed, STORM)


def test_a_partition_that_dies_while_it_writes_starts_with_what_was_stored(settings: SystemSettings) -> None:
    system = booted(settings, 60)
    process = system.client("lp3")
    process.write(LPARCFG, capacity(25))
    system.kill("lp3")
    system.pass_time(3_000_000)
    system.start_lpar("lp3")
    system.run_until(lambda: system.kernel("lp3").kernel.booted)
    system.pass_time(1_000_000)
    assert agreed(system) == (25, "partition_entitled_capacity=25")
