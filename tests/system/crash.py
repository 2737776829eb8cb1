"""Crash points: every step of every process's node loop during a workload, and a life in which one of them kills.

A point is named by role, step and message type; it comes up many times. `calm_life` records them; `crashed_life` runs
the same life with SIGKILL at a chosen time of one, starts the process again, and checks that nothing was lost or
doubled. Until the kill both are the same, event by event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypervisor.rows import ChangeRow, FaultRow, LedgerWindowRow
from lpar.client import Lpar
from lpar.client.errors import KernelFailure
from protocol.codes import CreditType, KernelReason
from tests.system.audit import Audit
from tests.system.story import booted, is_up, settle_and_compare
from tests.system.system import Host
from tests.system.watching import StepKind, Watcher
from tests.system.workload import Workload, crash_system

SEED = 5
SETTLE_US = 3_000_000
FREED_LIMIT_US = 2_500_000
SERVERS = ("hypervisor", "nxunit", "lpar")


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A step of a role's node loop with a message of this type."""

    role: str
    kind: StepKind
    message: str

    def __str__(self) -> str:
        return f"{self.role}/{self.kind}/{self.message}"


@dataclass(eq=False)
class Recorder(Watcher):
    """Counts how often each point comes up."""

    points: Counter[Point] = field(default_factory=Counter)

    def step(self, host: Host, kind: StepKind, message: str) -> None:
        self.points[Point(host.role, kind, message)] += 1


@dataclass(eq=False)
class Killer(Watcher):
    """Kills whoever is at the point when it comes up for the `times[0]`th time, the `times[1]`th time and so on.

    A server is started again after `away_us`; a client or console has nobody who would. `victims`: role and name.
    """

    point: Point
    times: Sequence[int]
    away_us: int
    seen: int = 0
    victims: list[tuple[str, str]] = field(default_factory=list)

    def step(self, host: Host, kind: StepKind, message: str) -> None:
        point = self.point
        if message != point.message or kind is not point.kind or host.role != point.role:
            return
        self.seen += 1
        if self.seen in self.times:
            self.victims.append((host.role, host.name))
            self.system.kill(host.name)
            if host.role in SERVERS:
                self.system.later(self.away_us, lambda: self.system.revive(host.name))


def calm_life(turn_us: int = 0) -> Counter[Point]:
    """The points of a life without deaths other than its own, with how often each comes up.

    `turn_us`: how long a server reads on before it ends a turn (links.py); 0: each message has a turn of its own.
    """
    recorder = Recorder()
    live([recorder], [], turn_us=turn_us)
    return recorder.points


def crashed_life(killers: Sequence[Killer], *, strict: bool = True, turn_us: int = 0) -> list[tuple[str, str]]:
    """A life in which these kill. Raises AssertionError with the rule that was broken; who was killed."""
    victims: list[tuple[str, str]] = []
    for killer in killers:
        killer.victims = victims
    live(killers, victims, strict=strict, turn_us=turn_us)
    return victims


def live(
    watchers: Sequence[Watcher], victims: Sequence[tuple[str, str]], *, strict: bool = True, turn_us: int = 0
) -> None:
    """The workload from the boot to the last credit, with every check."""
    audit = Audit()
    system = booted(crash_system(), SEED, [audit, *watchers], turn_us)
    workload = Workload(system, victims, strict)
    workload.run()
    system.watchers = [audit]
    set_right(workload)
    settle_and_compare(system, SETTLE_US)
    check_survivors(workload)
    workload.victims = ()
    for lpar in system.settings.lpar:
        check_pools_can_be_filled(workload, lpar.name)
    check_nothing_is_left(workload)
    audit.settled()


def set_right(workload: Workload) -> None:
    """What no console was told of was done once or not at all; then everything is made as at the beginning."""
    system = workload.system
    system.run_until(lambda: is_up(system))
    system.pass_time(SETTLE_US)
    for status in workload.status().lpars:
        possible = workload.cores[status.name]
        assert status.cores in possible, f"{status.name} has {status.cores} cores, expected one of {possible}"
        settings = system.settings.lpar_named(status.name)
        assert settings is not None
        workload.cores[status.name] = {status.cores}
        if status.cores != settings.cores:
            workload.processors(status.name, settings.cores - status.cores)
        if status.hundredths != settings.hundredths:
            workload.entitlement(status.name, settings.hundredths)
        workload.qos(status.name, settings.qos_credits)


def check_survivors(workload: Workload) -> None:
    """Each living program's windows all work, whatever else has died."""
    for name, worker in workload.workers.items():
        before = worker.process
        workload.read(name)
        if before is not None and worker.process is before:
            victims, workload.victims = workload.victims, ()
            workload.paste(name)
            workload.victims = victims


def check_pools_can_be_filled(workload: Workload, lpar: str) -> None:
    """As many windows can be opened as the partition has credits left, and not one more."""
    system = workload.system
    process = system.client(lpar)
    for credit_type in CreditType:
        pool = system.kernel(lpar).kernel.driver.pools[credit_type]
        target = system.hypervisor.ledger.target(system.hypervisor.ledger.partitions[lpar], credit_type)
        assert pool.total == target, f"{lpar} has {pool.total} {credit_type.name} credits, expected {target}"
        room = pool.total - pool.used
        opened = open_all(process, qos=credit_type is CreditType.QOS)
        assert opened == room, f"{lpar}: {opened} windows could be opened with {room} {credit_type.name} credits left"
    process.close()


def open_all(process: Lpar, *, qos: bool) -> int:
    """Open windows until there is no credit left; how many."""
    opened = 0
    while True:
        try:
            process.open_window(qos=qos)
        except KernelFailure as failure:
            if failure.reason is not KernelReason.NO_CREDIT:
                raise
            return opened
        opened += 1


def check_nothing_is_left(workload: Workload) -> None:
    """Every program exits: one lease and bounded work later every credit is free, on all sides."""
    system = workload.system
    for name in workload.workers:
        workload.goes(name)
    system.run_until(lambda: not system.hypervisor.ledger.windows, FREED_LIMIT_US)
    settle_and_compare(system, SETTLE_US)
    assert not system.contexts()
    hypervisor = system.hypervisor
    assert not hypervisor.hcalls.waiting
    assert not any(hypervisor.configurations.queues.values())
    for table in (LedgerWindowRow, ChangeRow, FaultRow):
        assert not system.store.tables[table], f"left in the ledger: {list(system.store.tables[table].values())}"
    for lpar in system.settings.lpar:
        kernel = system.kernel(lpar.name).kernel
        assert kernel.is_idle
        assert all(pool.used == 0 for pool in kernel.driver.pools.values())
    for chip in system.settings.chip:
        unit = system.hosts[chip.unit].core
        assert not len(unit.faults)
        assert not unit.fifos
    for host in system.hosts.values():
        assert host.role not in SERVERS or host.core.effects.exit is None, f"{host.name} has given up"
