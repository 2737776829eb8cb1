"""What is left of a story when it is over: told, left and done, so that two tellings of it can be compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hmc.stream import Arrival, TelemetryStream
from hypervisor.rows import LedgerWindowRow
from nxunit.core import UnitCore
from protocol.codes import CreditType
from protocol.console_messages import QuerySystem, SystemStatus
from protocol.message import Message
from protocol.system import parse_system
from protocol.telemetry_messages import ConfigurationMoved, CreditsChanged, FaultMoved, HcallMade, PeerMoved
from tests.system.everything import SETTINGS, Story, World
from tests.system.network import Fault, FaultyNetwork, Kind
from tests.system.story import SETTLE_US, is_up


@dataclass
class Observer:
    """Credits as an observer of the telemetry stream sees them, who mends what he missed with a snapshot."""

    stream: TelemetryStream[Message] = field(init=False)
    credits: dict[tuple[str, CreditType], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stream = TelemetryStream(self._apply, lambda _message: None)

    def _apply(self, message: Message) -> None:
        if isinstance(message, CreditsChanged):
            self.credits[message.lpar, message.credit_type] = (message.target, message.in_use)

    def watch(self, system: FaultyNetwork) -> None:
        """Take in what has arrived, and a snapshot if one is wanted."""
        self.stream.ask()
        status = system.console().ask(QuerySystem())
        assert isinstance(status, SystemStatus)
        for envelope in system.telemetry:
            self.stream.arrive(Arrival(envelope.number, envelope.body.at_us, envelope.body))  # type: ignore[attr-defined]
        self.stream.snapshot(status.telemetry_sequence, status.pid, lambda: self._replace(status))

    def _replace(self, status: SystemStatus) -> None:
        self.credits = {
            (lpar.name, pool.credit_type): (pool.target, pool.in_use) for lpar in status.lpars for pool in lpar.pools
        }


@dataclass
class Outcome:
    """What is left of a story, told and done, and how it came about, without its times.

    `requests` are what each unit that was never started anew has counted.
    """

    told: list[object]
    state: dict[str, object]
    history: dict[str, list[object]]
    lasted_us: int
    said: Counter[Kind]
    requests: dict[str, tuple[int, int, int]]


def play(
    story: Story, faults: Sequence[Fault], seed: int = 1, aim: Callable[[FaultyNetwork], None] | None = None
) -> tuple[Outcome, FaultyNetwork]:
    """A system lives through a story; the faults end, it settles, and this is what is left.

    `aim` is called when the system is up, for faults that begin then.
    """
    system = FaultyNetwork(parse_system(SETTINGS, "network"), seed, faults)
    system.run_until(lambda: is_up(system))
    if aim is not None:
        aim(system)
    world = World(system)
    began_us = system.now_us
    story(world)
    lasted_us, said = system.now_us - began_us, Counter(system.said)
    system.faults.clear()
    system.pass_time(SETTLE_US)
    observer = Observer()
    observer.watch(system)
    state: dict[str, object] = {"seen": observer.credits, **_hypervisor(system), **_units(system)}
    for lpar in system.settings.lpar:
        state |= _partition(system, lpar.name)
    return Outcome(world.told, state, _history(system), lasted_us, said, _requests(system)), system


def _hypervisor(system: FaultyNetwork) -> dict[str, object]:
    """The ledger, what is stored of it, and what is still to be done."""
    hypervisor = system.hypervisor
    configurations, faults = hypervisor.configurations, hypervisor.faults.by_window.values()
    return {
        "windows": [
            (window.window_id, window.lpar, window.credit_type, window.unit, window.phase, window.process_id)
            for window in hypervisor.ledger.windows.values()
        ],
        "stored windows": sorted(row.window_id for row in system.store.rows() if isinstance(row, LedgerWindowRow)),
        "partitions": [partition.row() for partition in hypervisor.ledger.partitions.values()],
        "changes": [*filter(None, configurations.queues.values()), *configurations.expired],
        "faults": [fault.key for by_number in faults for fault in by_number.values()],
        "contexts": system.contexts(),
    }


def _units(system: FaultyNetwork) -> dict[str, object]:
    """What each unit holds, and whether it has fenced itself."""
    units = {host.name: host.core.statistics() for host in system.hosts.values() if isinstance(host.core, UnitCore)}
    return {name: (unit.fences, unit.contexts, unit.faults_outstanding) for name, unit in units.items()}


def _partition(system: FaultyNetwork, name: str) -> dict[str, object]:
    """Windows in the order of their lists with their states, credits, files."""
    kernel = system.kernel(name).kernel
    state: dict[str, object] = {
        f"{name} idle": kernel.is_idle,
        f"{name} processes": [process.pid for process in kernel.calls.processes.values()],
    }
    for pool in kernel.driver.pools.values():
        key = f"{name} {pool.credit_type.name}"
        in_use = system.hypervisor.ledger.in_use(name, pool.credit_type)
        state[key] = (pool.total, pool.used, pool.active, pool.nr_close, pool.progress, in_use)
        state[f"{key} windows"] = [
            (window.order, window.window_id, window.status, window.pid, window.descriptor, window.mapping)
            for window in pool.newest_first()
        ]
    shown = {path: file.show for path, file in kernel.files.files.items() if file.show is not None}
    return state | {f"{name}:{path}": show() for path, show in shown.items()}


def _requests(system: FaultyNetwork) -> dict[str, tuple[int, int, int]]:
    """Requests, bytes in and bytes out of the units. One that was started anew may meet a late copy of an old paste."""
    units = [host.core for host in system.hosts.values() if isinstance(host.core, UnitCore)]
    counted = {unit.chip.unit: unit.statistics() for unit in units if unit.dialer.session.epoch == 1}
    return {name: (unit.accepted, unit.bytes_in, unit.bytes_out) for name, unit in counted.items()}


def _history(system: FaultyNetwork) -> dict[str, list[object]]:
    """What happened to each partition and each session, in order, without times and without what latency alone makes.

    That is: busy answers, questions for a state repeated, interrupts repeated, suspicion and return, notices.
    """
    history: dict[str, list[object]] = defaultdict(list)
    for envelope in system.published:
        match envelope.body:
            case HcallMade() as made:
                polled = made.hcall in ("h_vasi_state", "h_get_nx_fault")
                if not made.code.is_busy and not polled:
                    history[f"{made.lpar} hcalls"].append((made.hcall, made.arguments, made.code, made.window_id))
            case CreditsChanged() as changed:
                history[f"{changed.lpar} credits"].append((changed.credit_type, changed.target, changed.in_use))
            case ConfigurationMoved() as moved if moved.step != "notified":
                history[f"{moved.lpar} changes"].append((moved.generation, moved.kind, moved.step, moved.detail))
            case FaultMoved() as moved:
                step = "over" if moved.step in ("settled", "dropped") else moved.step
                history[f"{moved.lpar} faults of {moved.window_id}"].append((moved.operand, step))
            case PeerMoved() as moved if moved.step in ("opened", "closed"):
                history[f"{moved.role} {moved.name}"].append((moved.epoch, moved.step))
    return dict(history)
