"""The hmc link: what the management console may ask. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.change import Change
from hypervisor.configuration import Configurations
from hypervisor.hcalls import Hcalls
from hypervisor.ledger import Ledger, Partition
from hypervisor.refusal import failure, free_slot
from hypervisor.slots import Slots
from hypervisor.unit import Unit
from hypervisor.units import Units
from protocol.codes import CreditType
from protocol.console_messages import (
    ChangeProcessors,
    HoldChanged,
    HoldNotifications,
    LparStatus,
    MigratePartition,
    PoolStatus,
    QuerySystem,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    SystemStatus,
    UnitStatus,
    WindowRow,
    Windows,
)  # fmt: skip
from protocol.hcall_messages import ConfigurationKind
from protocol.listener import Listener
from protocol.message import Reply
from protocol.session import Called

OBSERVER = "observer"
CONSOLE_ROLES = ("hmc", OBSERVER, "chaos")
"""Whose sessions the hmc link takes. With keys a role is proved; without them it is what the peer says of itself."""
QUERIES = (QuerySystem, QueryWindows)
WINDOW_PAGE = 1024
"""Window rows in one answer."""


@dataclass(slots=True)
class Console:
    """Answers the console from the ledger and passes changes to the configuration queues."""

    ledger: Ledger
    units: Units
    hcalls: Hcalls
    configurations: Configurations
    hcall_link: Listener
    link: Listener
    slots: Slots
    pid: int
    telemetry: dict[str, str]

    def handle(self, call: Called, recovering: bool, now_us: int) -> None:
        """Carry out one request of the console; of an observer only what changes nothing."""
        if call.session.role == OBSERVER and not isinstance(call.body, QUERIES):
            refusal = failure("read_only", f"an observer may not {call.body.type}", "use the key of hmc")
            self.link.answer(call.session, call.number, refusal)
            return
        match call.body:
            case ChangeProcessors(lpar=lpar, cores=cores, wait_ms=wait_ms):
                self._change(call, lpar, ConfigurationKind.CPU, cores, wait_ms, now_us)
            case SetEntitlement(lpar=lpar, hundredths=hundredths, wait_ms=wait_ms):
                self._change(call, lpar, ConfigurationKind.ENTITLEMENT, hundredths, wait_ms, now_us)
            case SetQosCredits(lpar=lpar, credits=credits, wait_ms=wait_ms):
                self._change(call, lpar, ConfigurationKind.QOS, credits, wait_ms, now_us)
            case MigratePartition(lpar=lpar, hold_ms=hold_ms, wait_ms=wait_ms):
                self._change(call, lpar, ConfigurationKind.MIGRATION, hold_ms, wait_ms, now_us)
            case HoldNotifications(lpar=lpar, hold=hold):
                self._hold(call, lpar, hold, now_us)
            case QuerySystem():
                self.link.answer(call.session, call.number, self.status(recovering))
            case QueryWindows(lpar=lpar_name, above=above):
                # A slot that is free again may still have windows which are being closed.
                if lpar_name is None or lpar_name in self.ledger.partitions or self._knows(call, lpar_name):
                    self.link.answer(call.session, call.number, self._windows(lpar_name, above))
            case _:
                raise AssertionError(f"{call.body.type} is no request of the console")

    def finished(self, change: Change, reply: Reply) -> None:
        """A change is over: tell the console that asked, if it is still there."""
        session = self.link.sessions.get(change.console)
        if session is not None and session.epoch == change.epoch:
            self.link.answer(session, change.number, reply)

    def status(self, recovering: bool) -> SystemStatus:
        """The whole system."""
        return SystemStatus(
            system=self.ledger.system.name,
            pid=self.pid,
            recovering=recovering,
            accelerators=self.ledger.system.accelerators,
            cores_total=self.ledger.system.cores_total,
            hundredths_free=max(0, self.ledger.free_hundredths()),
            qos_total=self.ledger.system.qos_credits,
            qos_free=max(0, self.configurations.qos_free()),
            lpars=tuple(self._lpar(partition) for partition in self.ledger.present),
            units=tuple(self._unit(unit) for unit in self.units.by_name.values()),
            telemetry_sequence=self.ledger.effects.publication,
            telemetry=self.telemetry,
            slots=self.slots.status(),
        )

    def _change(self, call: Called, lpar: str, kind: ConfigurationKind, amount: int, wait_ms: int, now_us: int) -> None:
        if self._knows(call, lpar):
            self.configurations.submit(call, lpar, kind, amount, wait_ms, now_us)

    def _hold(self, call: Called, lpar: str, hold: bool, now_us: int) -> None:
        if self._knows(call, lpar):
            self.configurations.hold(self.ledger.partitions[lpar], hold, now_us)
            self.link.answer(call.session, call.number, HoldChanged(hold=hold))

    def _knows(self, call: Called, lpar: str) -> bool:
        partition = self.ledger.partitions.get(lpar)
        if partition is not None and not partition.is_free_slot:
            return True
        names = ", ".join(sorted(present.name for present in self.ledger.present))
        refusal = failure("unknown_lpar", f"no partition {lpar!r}", f"this system has {names}")
        if partition is not None:
            refusal = free_slot(lpar)
        self.link.answer(call.session, call.number, refusal)
        return False

    def _lpar(self, partition: Partition) -> LparStatus:
        session = self.hcall_link.sessions.get(partition.name)
        if session is None:
            state = "not_activated"
        elif session.peer is None and session.gone_us is None:
            state = "recovering"
        else:
            state = "suspected" if session.suspected else "running"
        pools = tuple(
            PoolStatus(
                credit_type=credit_type,
                target=self.ledger.target(partition, credit_type),
                in_use=self.ledger.in_use(partition.name, credit_type),
            )
            for credit_type in CreditType
        )
        return LparStatus(
            name=partition.name,
            state=state,
            mode=str(partition.mode),
            cores=partition.cores,
            hundredths=partition.hundredths,
            home_chip=partition.home_chip,
            epoch=session.epoch if session else 0,
            generation=partition.generation,
            acknowledged=partition.acknowledged,
            pid=session.pid if session else 0,
            endpoints=session.endpoints if session else {},
            pools=pools,
        )

    def _unit(self, unit: Unit) -> UnitStatus:
        return UnitStatus(
            name=unit.name,
            chip=unit.chip.number,
            state=str(unit.state),
            pid=unit.session.pid if unit.session else 0,
            endpoints=unit.endpoints,
            windows=self.ledger.on_unit(unit.name),
        )

    def _windows(self, lpar: str | None, above: int) -> Windows:
        ids = sorted(
            window_id
            for window_id, window in self.ledger.windows.items()
            if window_id > above and lpar in (None, window.lpar)
        )
        rows = tuple(self._window_row(window_id) for window_id in ids[:WINDOW_PAGE])
        return Windows(rows=rows, more=len(ids) > WINDOW_PAGE)

    def _window_row(self, window_id: int) -> WindowRow:
        window = self.ledger.windows[window_id]
        return WindowRow(
            window_id=window_id,
            lpar=window.lpar,
            credit_type=window.credit_type,
            unit=window.unit,
            status=self.hcalls.status(window),
            state="fenced" if window.fenced else str(window.phase),
            process_id=window.process_id,
        )
