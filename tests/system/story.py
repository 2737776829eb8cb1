"""How every story of a whole system begins and ends."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.system import SystemSettings
from tests.system.system import System, Weather
from tests.system.watching import Watcher

SETTLE_US = 20_000_000


def booted(settings: SystemSettings, seed: int, watchers: Sequence[Watcher] = (), turn_us: int = 0) -> System:
    """A system whose every part is up."""
    system = System(settings, seed, watchers, turn_us)
    system.run_until(lambda: is_up(system))
    return system


def is_up(system: System) -> bool:
    """Whether every part runs and is ready for work."""
    if not all(name in system.hosts for name in system.servers):
        return False
    units_usable = all(unit.usable for unit in system.hypervisor.units.by_name.values())
    return units_usable and all(system.kernel(lpar.name).kernel.booted for lpar in system.settings.lpar)


def settle_and_compare(system: System, settle_us: int = SETTLE_US) -> None:
    """When the weather is fine again, the ledger, the kernels and the units tell the same story."""
    system.weather = Weather()
    system.pass_time(settle_us)
    ledger = {window.window_id: window.unit for window in system.hypervisor.ledger.windows.values()}
    kernels: dict[int, str] = {}
    for lpar in system.settings.lpar:
        for pool in system.kernel(lpar.name).kernel.driver.pools.values():
            active = [window for window in pool.newest_first() if window.is_active]
            kernels |= {window.window_id: lpar.name for window in active}
            assert len(active) <= pool.total
            assert pool.used == len(pool)
            assert len(active) == pool.active
            counted = system.hypervisor.ledger.in_use(lpar.name, pool.credit_type)
            assert counted == len(active), f"{lpar.name}: the ledger counts {counted}, the kernel {len(active)}"
    assert set(ledger) == set(kernels)
    assert system.contexts() == ledger
