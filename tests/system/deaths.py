"""What the tests of deaths share: a system on its default times, and what of it must not move when nothing happens."""

from __future__ import annotations

from collections.abc import Callable

from lpar.client import Lpar, Request
from protocol.codes import CreditType, FunctionCode
from protocol.exchange import OUTSTANDING_LIMIT
from protocol.session import Session
from protocol.system import SystemSettings, Times, parse_system
from tests.processes.cluster import SYSTEM
from tests.system.actors import ClientHost
from tests.system.standstill import StandstillSystem
from tests.system.system import JOB_US, LATENCY_US, System

DATA = b"what a partition compresses all day " * 2_000
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
ROUND_TRIP_US = 2 * LATENCY_US[1]
SETTINGS = parse_system(SYSTEM, "test system").model_copy(update={"times": Times()})
TIMES = SETTINGS.times
LPAR_LEASE_US = (TIMES.lpar_lease_ms + TIMES.drift_margin_ms) * 1000
CLIENT_LEASE_US = (TIMES.client_lease_ms + TIMES.drift_margin_ms) * 1000


def up(seed: int, settings: SystemSettings = SETTINGS) -> StandstillSystem:
    return StandstillSystem.up(settings, seed)


def work_us(windows: int) -> int:
    """What closing so many contexts takes at most once a lease is over: as many at a time as a session allows."""
    waves = -(-windows // OUTSTANDING_LIMIT)
    return waves * ROUND_TRIP_US + JOB_US


def in_use(system: System, lpar: str = "lp1") -> int:
    return system.hypervisor.ledger.in_use(lpar, CreditType.DEFAULT)


def session_of(system: System, name: str) -> Session:
    hypervisor = system.hypervisor
    return (hypervisor.hcall.sessions | hypervisor.fabric.sessions)[name]


def facts(system: System) -> dict[str, object]:
    """What must not move when nothing has happened: sessions, generations, windows, contexts."""
    hypervisor = system.hypervisor
    sessions = hypervisor.hcall.sessions | hypervisor.fabric.sessions
    return {
        "epochs": {name: session.epoch for name, session in sessions.items()},
        "generations": {partition.name: partition.generation for partition in hypervisor.ledger.partitions.values()},
        "windows": {window.window_id: (window.phase, window.unit) for window in hypervisor.ledger.windows.values()},
        "contexts": system.contexts(),
        "boots": {lpar.name: id(system.kernel(lpar.name).kernel) for lpar in system.settings.lpar},
    }


def host_of(lpar: Lpar) -> str:
    """The simulated process that a client runs in."""
    assert isinstance(lpar.driver, ClientHost)
    return lpar.driver.host.name


def unit_usable(system: System, name: str) -> Callable[[], bool]:
    return lambda: system.hypervisor.units.by_name[name].usable
