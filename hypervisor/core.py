"""The hypervisor's core: three links, one ledger. Pure: see protocol.effects.Core."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.admission import admit_console, admit_lpar, admit_unit
from hypervisor.configuration import Configurations
from hypervisor.console import Console
from hypervisor.faults import Faults
from hypervisor.hcalls import HCALL_REQUESTS, Hcalls
from hypervisor.journal import ConsoleJournal, EpochJournal, SessionJournal
from hypervisor.ledger import Ledger, WindowPhase
from hypervisor.metrics import families
from hypervisor.mobility import MOBILITY_REQUESTS
from hypervisor.ppp import ProcessorParameters
from hypervisor.recovery import Recovery
from hypervisor.rows import Row
from hypervisor.slots import Slots
from hypervisor.units import Units
from protocol.clock import MILLISECOND_US, SECOND_US, earliest
from protocol.codes import ExitCode
from protocol.effects import Effects, Exit, Peer
from protocol.hcall_messages import Noted, QueryConfiguration, Reconfigured
from protocol.link import CONSOLE, FABRIC, HCALL
from protocol.listener import Listener
from protocol.metrics import Family
from protocol.refusals import RefusalCode
from protocol.session import Called, Closed, Event, Moved, Opened, Session
from protocol.system import SystemSettings
from protocol.telemetry_messages import PeerMoved
from protocol.wire import Envelope

RECOVERY_RETRY_MS = 50
DRAINING_RETRY_MS = 500
CONSOLE_BACK_US = 10 * SECOND_US
"""How long consoles have after a restart to come back for their answers, if their lease is shorter.

A console whose connection ZeroMQ has re-made notices a restart by the silence only (protocol.dialer).
"""


class HypervisorCore:
    """Built from the system file and the rows that an earlier process stored (none at first)."""

    def __init__(
        self,
        system: SystemSettings,
        rows: list[Row],
        entropy: Callable[[int], bytes],
        pid: int = 0,
        telemetry: dict[str, str] | None = None,
    ) -> None:
        self.system = system
        self.rows = rows
        self.effects = Effects()
        self.unit_journal = EpochJournal(FABRIC, self.effects)
        self.journals = {
            "hcall": SessionJournal(HCALL, self.effects),
            "fabric": self.unit_journal,
            "hmc": ConsoleJournal(CONSOLE, self.effects),
        }
        self.ledger = Ledger(system, self.effects)
        self._listen(entropy)
        self.faults = Faults(self.ledger, self.hcall, self.fabric, self.effects)
        self.hcalls = Hcalls(system, self.ledger, self.hcall, self.effects, entropy, self.faults)
        self.units = Units(
            system, self.ledger, self.fabric, self.effects, self.faults,
            self.hcalls.programmed, self.hcalls.closed, self.hcalls.draining,
        )  # fmt: skip
        self.hcalls.units = self.units
        self.faults.units = self.units.by_name
        self.configurations = Configurations(self.ledger, self.hcall, self.effects, lambda *_: None)
        self.slots = Slots(system.slots, self.ledger, self.hcall, self.effects, self.configurations.qos_free)
        self.hcall.claims = self.slots
        self.console = Console(
            self.ledger, self.units, self.hcalls, self.configurations, self.hcall, self.hmc, self.slots, pid,
            telemetry or {},
        )  # fmt: skip
        self.configurations.finished = self.console.finished
        self.hcalls.allocation_limit = self.configurations.allocation_limit
        self.hcalls.processors = ProcessorParameters(self.ledger, self.configurations)
        self.recovery = Recovery(self.ledger, self.units, self.effects)
        self._stopping = False

    def _listen(self, entropy: Callable[[int], bytes]) -> None:
        """The three links, each with the terms of its sessions, whom it admits and where that is journalled."""
        times, sessions = self.system.times, self.system.limits.sessions
        lpar_terms = times.terms(times.lpar_lease_ms, by_beats=True, session_limit=sessions)
        unit_terms = times.terms(times.fence_ms, by_beats=True, session_limit=sessions)
        console_terms = times.terms(times.client_lease_ms, by_beats=False, session_limit=sessions)
        self.hcall = Listener(
            "hcall", lpar_terms, self.effects, entropy, lambda hello: admit_lpar(self.ledger, hello),
            self._generation, self.journals["hcall"],
        )  # fmt: skip
        self.fabric = Listener(
            "fabric", unit_terms, self.effects, entropy, lambda hello: admit_unit(self.ledger, hello),
            journal=self.journals["fabric"],
        )  # fmt: skip
        self.hmc = Listener(
            "hmc", console_terms, self.effects, entropy, lambda hello: admit_console(self.hmc, hello),
            journal=self.journals["hmc"],
        )  # fmt: skip

    def start(self, now_us: int) -> None:
        self.ledger.restore(list(self.rows))
        self.configurations.restore(self.rows, now_us)
        for name, listener in (("hcall", self.hcall), ("fabric", self.fabric), ("hmc", self.hmc)):
            sessions, epochs = self.journals[name].restore(self.rows)
            listener.restore(self._known(name, sessions), epochs, now_us)
        self.slots.restore(now_us)
        for session in self.hmc.sessions.values():
            session.gone_us = now_us + max(0, CONSOLE_BACK_US - self.hmc.terms.lease_us)
        for queue in self.configurations.queues.values():
            for change in queue:
                asker = self.hmc.sessions.get(change.console)
                if asker is not None and asker.epoch == change.epoch:
                    asker.callee.under_way.add(change.number)
        self.units.start(self.rows, now_us)
        self.faults.restore(self.rows)
        units = {window.unit for window in self.ledger.windows.values()} | self.unit_journal.expected.keys()
        self.recovery.start(units, self.system.times.suspect_ms * MILLISECOND_US, now_us)
        self._fence_orphans(now_us)
        self.effects.note(
            "info", "hypervisor_started", system=self.system.name, windows=len(self.ledger.windows),
            sessions=len(self.hcall.sessions), recovering=self.recovering,
        )  # fmt: skip
        self.rows = []

    @property
    def recovering(self) -> bool:
        """Whether the contexts of a unit that has windows or was here are not known; what hangs on it is put off."""
        return self.recovery.active

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        if link == "hcall":
            self._lpar_events(self.hcall.receive(peer, envelope, now_us), now_us)
        elif link == "fabric":
            self._unit_events(self.fabric.receive(peer, envelope, now_us), now_us)
        elif link == "hmc":
            self._console_events(self.hmc.receive(peer, envelope, now_us), now_us)

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        {"hcall": self.hcall, "fabric": self.fabric, "hmc": self.hmc}[link].unreachable(peer, now_us)

    def tick(self, now_us: int) -> None:
        self._lpar_events(self.hcall.tick(now_us), now_us)
        self._unit_events(self.fabric.tick(now_us), now_us)
        self._console_events(self.hmc.tick(now_us), now_us)
        self.units.tick(now_us)
        for unit in [unit for unit in self.unit_journal.expected if self.units.is_settled(unit)]:
            self.unit_journal.give_up(unit)
        self.recovery.tick(now_us)
        self.hcalls.tick(now_us)
        self.faults.tick(now_us)
        self.configurations.tick(now_us)
        self._end_when_answered()

    def wake_us(self) -> int | None:
        return earliest(
            self.hcall.wake_us(), self.fabric.wake_us(), self.hmc.wake_us(),
            self.units.wake_us(), self.hcalls.wake_us(), self.faults.wake_us(), self.configurations.wake_us(),
            self.recovery.wake_us(),
        )  # fmt: skip

    def metrics(self) -> list[Family]:
        """What this process counts, as of now."""
        listeners = {listener.link: listener for listener in (self.hcall, self.fabric, self.hmc)}
        return families(
            self.ledger, self.hcalls, self.faults, self.units.by_name, self.configurations, listeners,
            self.slots.status(), recovering=self.recovering,
        )  # fmt: skip

    def stop(self, now_us: int) -> None:
        """Admit nobody and begin no hcall; exit when those under way are answered, within `hcall_patience_ms`.

        Everything answered is stored, and sessions outlive the process: what is put off is repeated to the next one.
        """
        self._stopping = True
        self.effects.note("info", "hypervisor_stopping", hcalls=len(self.hcalls.waiting))
        self._end_when_answered()

    def _end_when_answered(self) -> None:
        if self._stopping and not self.hcalls.waiting:
            self.effects.exit = Exit(ExitCode.OK, "stopped when asked to")

    def _known(self, link: str, sessions: list[Session]) -> list[Session]:
        """Those that may go on: a partition that the system file no longer has is over."""
        known: list[Session] = []
        for session in sessions:
            if link != "hcall" or session.name in self.ledger.partitions:
                known.append(session)
            else:
                session.alive = False
                self.journals[link].session_ended(session)
        return known

    def _generation(self, session: Session) -> int:
        return self.configurations.generation(session)

    # What happens on the links.

    def _lpar_events(self, events: list[Event], now_us: int) -> None:
        for event in events:
            match event:
                case Called():
                    self._called(event, now_us)
                case Opened(session):
                    self.slots.claimed(session.name, now_us)
                    self.configurations.partition_started(session.name)
                    self._publish(session, "opened", now_us)
                    self.effects.note("info", "lpar_started", lpar=session.name, epoch=session.epoch)
                case Moved(session, step):
                    self._publish(session, step, now_us)
                    self.effects.note("info", f"lpar_{step}", lpar=session.name, epoch=session.epoch)
                    if step != "suspected":
                        self.faults.partition_returned(session.name, now_us)
                case Closed(session, ending):
                    count = self.hcalls.fence(session, now_us)
                    self.configurations.partition_died(session.name, now_us)
                    self.slots.release(session.name, now_us)
                    self._publish(session, "closed", now_us)
                    self.effects.note(
                        "warning", "lpar_ended", lpar=session.name, epoch=session.epoch, ending=str(ending),
                        windows=count,
                    )  # fmt: skip
                case _:
                    pass

    def _called(self, call: Called, now_us: int) -> None:
        if self._stopping:
            self.hcall.retry(call.session, call.number, DRAINING_RETRY_MS, RefusalCode.DRAINING)
        elif self.recovery.puts_off(call.session.name, call.body, now_us):
            self.hcall.retry(call.session, call.number, RECOVERY_RETRY_MS)
        elif isinstance(call.body, HCALL_REQUESTS):
            self.hcalls.handle(call, now_us)
        elif isinstance(call.body, MOBILITY_REQUESTS):
            partition = self.ledger.partitions[call.session.name]
            self.hcalls.answer(call, self.configurations.streams.handle(partition, call.body, now_us), now_us)
        elif isinstance(call.body, QueryConfiguration):
            self.hcall.answer(call.session, call.number, self.configurations.query(call.session, call.body))
        elif isinstance(call.body, Reconfigured):
            self.hcall.answer(call.session, call.number, Noted())
            self.configurations.reconfigured(call.session, call.body, now_us)

    def _unit_events(self, events: list[Event], now_us: int) -> None:
        for event in events:
            self.units.handle(event, now_us)

    def _console_events(self, events: list[Event], now_us: int) -> None:
        for event in events:
            if isinstance(event, Called) and self._stopping:
                self.hmc.retry(event.session, event.number, DRAINING_RETRY_MS, RefusalCode.DRAINING)
            elif isinstance(event, Called):
                self.console.handle(event, self.recovering, now_us)

    def _fence_orphans(self, now_us: int) -> None:
        """Windows whose partition has no live session any more: their fencing was interrupted."""
        for window in list(self.ledger.windows.values()):
            session = self.hcall.sessions.get(window.lpar)
            if session is not None and session.epoch == window.epoch and not window.fenced:
                continue
            window.fenced = True
            self.faults.fence(window, now_us)
            if window.has_no_context or window.unit not in self.units.by_name:
                self.ledger.free(window, now_us)
            else:
                self.ledger.move(window, WindowPhase.CLOSING)

    def _publish(self, session: Session, step: str, now_us: int) -> None:
        self.effects.publish(
            PeerMoved(at_us=now_us, role=session.role, name=session.name, epoch=session.epoch, step=step)
        )
