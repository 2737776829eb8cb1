"""Changes of a partition's processors and QoS credits, one at a time, as drmgr serialises them. Pure.

Processors: the hypervisor lowers or raises the target and tells the kernel, which then asks for its capabilities; it
does not revoke anything. QoS: the partition is told first and the pool follows only if it accepts. The next change
waits until the kernel has acknowledged this one, its session has died, or the operation's wait has expired.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from hypervisor.ledger import Ledger, Partition
from hypervisor.refusal import failure, insufficient
from hypervisor.rows import ChangeRow, CounterRow, Drop, Put, Row
from protocol.clock import MILLISECOND_US
from protocol.codes import CREDIT_MAX, CreditType
from protocol.console_messages import ConfigurationApplied, ConsoleFailure
from protocol.effects import Effects
from protocol.hcall_messages import Configuration, ConfigurationChange, ConfigurationKind, Reconfigured
from protocol.listener import Listener
from protocol.message import Reply
from protocol.session import Session
from protocol.system import HUNDREDTHS_PER_CORE, MINIMUM_HUNDREDTHS, ProcessorMode
from protocol.telemetry_messages import ConfigurationMoved

QUEUE_LIMIT = 64
"""Changes that wait for one partition."""


class ChangeState(StrEnum):
    """QUEUED behind another change, or with the kernel: the one that waits for its acknowledgement."""

    QUEUED = "queued"
    WITH_KERNEL = "with_kernel"


@dataclass(slots=True)
class Change:
    """One operation of the console. `amount`: cores to add (may be negative), hundredths, or QoS credits."""

    lpar: str
    order: int
    kind: ConfigurationKind
    amount: int
    console: str
    number: int
    wait_ms: int
    generation: int = 0
    state: ChangeState = ChangeState.QUEUED
    total_before: int = 0
    deadline_us: int = 0
    applied_us: int = 0

    @property
    def credit_type(self) -> CreditType:
        return CreditType.QOS if self.kind is ConfigurationKind.QOS else CreditType.DEFAULT

    def row(self) -> ChangeRow:
        return ChangeRow(
            self.lpar, self.order, str(self.kind), self.amount, self.generation, str(self.state), self.total_before,
            self.console, self.number, self.wait_ms,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: ChangeRow, now_us: int) -> Change:
        return cls(
            row.lpar, row.order, ConfigurationKind(row.kind), row.amount, row.console, row.number, row.wait_ms,
            row.generation, ChangeState(row.state), row.total_before, now_us + row.wait_ms * MILLISECOND_US, now_us,
        )  # fmt: skip


@dataclass(slots=True)
class Configurations:
    """The queues of changes. `finished(change, reply)` answers the console."""

    ledger: Ledger
    link: Listener
    effects: Effects
    finished: Callable[[Change, Reply], None]
    queues: dict[str, deque[Change]] = field(default_factory=dict)
    next_order: int = 1
    _late_qos: dict[str, Change] = field(default_factory=dict)

    def restore(self, rows: list[Row], now_us: int) -> None:
        """Changes that an earlier process had begun: each waits its whole time again."""
        for row in rows:
            if isinstance(row, ChangeRow):
                self.queues.setdefault(row.lpar, deque()).append(Change.from_row(row, now_us))
            elif isinstance(row, CounterRow) and row.name == "change":
                self.next_order = row.value

    def submit(
        self, lpar: str, kind: ConfigurationKind, amount: int, console: str, number: int, wait_ms: int, now_us: int
    ) -> None:
        """Queue an operation; `finished` is called when it is over, maybe at once."""
        deadline_us = now_us + wait_ms * MILLISECOND_US
        change = Change(lpar, self.next_order, kind, amount, console, number, wait_ms, deadline_us=deadline_us)
        queue = self.queues.setdefault(lpar, deque())
        if len(queue) >= QUEUE_LIMIT:
            text = f"{lpar} has {QUEUE_LIMIT} changes waiting"
            self.finished(change, failure("queue_full", text, "wait for them"))
            return
        self.next_order += 1
        self.effects.writes += [Put(CounterRow("change", self.next_order)), Put(change.row())]
        queue.append(change)
        self._publish(change, "queued", now_us)
        self._advance(lpar, now_us)

    def hold(self, partition: Partition, hold: bool, now_us: int) -> None:
        """Keep changes from reaching the partition's kernel, or let the waiting one through."""
        partition.held = hold
        change = self._with_kernel(partition.name)
        if not hold and change is not None:
            self._notify(change, now_us)

    def generation(self, session: Session) -> int:
        """What a beat's echo tells the kernel: the newest generation it may see."""
        partition = self.ledger.partitions[session.name]
        return partition.acknowledged if partition.held else partition.generation

    def query(self, session: Session) -> Configuration:
        """The change that waits for the kernel, if one does."""
        partition = self.ledger.partitions[session.name]
        change = None if partition.held else self._with_kernel(session.name)
        generation = self.generation(session)
        return Configuration(generation=generation, change=None if change is None else self._notice(change))

    def reconfigured(self, session: Session, report: Reconfigured, now_us: int) -> None:
        """The kernel has applied a generation, or refused it."""
        partition = self.ledger.partitions[session.name]
        if report.generation > partition.acknowledged:
            partition.acknowledged = min(report.generation, partition.generation)
            self.ledger.store_partition(partition)
        change = self._with_kernel(session.name)
        if change is None or change.generation != report.generation:
            self._late(partition, report, now_us)
            return
        if report.accepted and change.kind is ConfigurationKind.QOS:
            self._set_qos(partition, change.amount, now_us)
        self._publish(change, "acknowledged" if report.accepted else "refused", now_us, report.error)
        if report.accepted:
            self._finish(change, self._applied(partition, change, report, now_us), now_us)
        else:
            text = f"the operating system of {change.lpar} refused: {report.error or 'no reason given'}"
            self._finish(change, failure("os_refused", text, "see the log of the partition"), now_us)

    def partition_died(self, lpar: str, now_us: int) -> None:
        """The kernel's session is over: what it had not acknowledged has effect at its next start."""
        self._late_qos.pop(lpar, None)
        change = self._with_kernel(lpar)
        if change is None:
            return
        partition = self.ledger.partitions[lpar]
        if change.kind is ConfigurationKind.QOS:
            self._set_qos(partition, change.amount, now_us)
        self._publish(change, "died", now_us)
        self._finish(change, self._applied(partition, change, None, now_us), now_us)

    def partition_started(self, lpar: str) -> None:
        """A new kernel reads everything at its start: it has acknowledged whatever there is."""
        partition = self.ledger.partitions[lpar]
        if partition.acknowledged != partition.generation:
            partition.acknowledged = partition.generation
            self.ledger.store_partition(partition)

    def tick(self, now_us: int) -> None:
        """End operations whose wait has expired."""
        for lpar in list(self.queues):
            for change in [change for change in self.queues[lpar] if now_us >= change.deadline_us]:
                self._expire(change, now_us)

    def wake_us(self) -> int | None:
        return min((change.deadline_us for queue in self.queues.values() for change in queue), default=None)

    def qos_free(self, besides: str | None = None) -> int:
        """QoS credits of the system that nobody has or is being promised."""
        taken = 0
        for name, partition in self.ledger.partitions.items():
            promised = [change.amount for change in self.queues.get(name, ()) if self._is_qos_promise(change)]
            taken += 0 if name == besides else max([partition.qos_credits, *promised])
        return self.ledger.system.qos_credits - taken

    # Steps.

    @staticmethod
    def _is_qos_promise(change: Change) -> bool:
        return change.kind is ConfigurationKind.QOS and change.state is ChangeState.WITH_KERNEL

    def _with_kernel(self, lpar: str) -> Change | None:
        queue = self.queues.get(lpar)
        return queue[0] if queue and queue[0].state is ChangeState.WITH_KERNEL else None

    def _advance(self, lpar: str, now_us: int) -> None:
        """Begin the first change of the queue, unless one is with the kernel."""
        queue = self.queues[lpar]
        while queue and queue[0].state is ChangeState.QUEUED:
            self._begin(queue[0], now_us)

    def _begin(self, change: Change, now_us: int) -> None:
        partition = self.ledger.partitions[change.lpar]
        refusal = self._check(partition, change)
        if refusal is not None:
            self._finish(change, refusal, now_us)
            return
        change.state = ChangeState.WITH_KERNEL
        change.total_before = self.ledger.target(partition, change.credit_type)
        change.applied_us = now_us
        partition.generation += 1
        change.generation = partition.generation
        if change.kind is ConfigurationKind.CPU:
            partition.cores += change.amount
        elif change.kind is ConfigurationKind.ENTITLEMENT:
            partition.hundredths = change.amount
        self.effects.writes.append(Put(change.row()))
        self.ledger.store_partition(partition)
        self.ledger.publish_credits(change.lpar, change.credit_type, now_us)
        self._publish(change, "applied", now_us)
        if change.lpar in self.link.sessions:
            self._notify(change, now_us)
        else:
            self.partition_started(change.lpar)
            self.partition_died(change.lpar, now_us)

    def _notify(self, change: Change, now_us: int) -> None:
        partition = self.ledger.partitions[change.lpar]
        session = self.link.sessions.get(change.lpar)
        if partition.held or session is None:
            self._publish(change, "held" if partition.held else "unheard", now_us)
            return
        self.link.notify(session, self._notice(change))
        self._publish(change, "notified", now_us)

    @staticmethod
    def _notice(change: Change) -> ConfigurationChange:
        amount = 0 if change.kind is ConfigurationKind.CPU else change.amount
        return ConfigurationChange(generation=change.generation, kind=change.kind, amount=amount)

    def _expire(self, change: Change, now_us: int) -> None:
        if change.state is ChangeState.WITH_KERNEL:
            if change.kind is ConfigurationKind.QOS:
                self._late_qos[change.lpar] = change
            text = f"{change.lpar} did not acknowledge generation {change.generation} within {change.wait_ms} ms"
            advice = "the change stands; the partition applies it when it hears of it"
        else:
            text = f"an earlier change of {change.lpar} was still under way after {change.wait_ms} ms"
            advice = "nothing was changed; try again"
        self._publish(change, "expired", now_us)
        self._finish(change, failure("timeout", text, advice), now_us)

    def _late(self, partition: Partition, report: Reconfigured, now_us: int) -> None:
        """A QoS change whose wait had expired was accepted after all: the kernel uses it, so the pool follows."""
        change = self._late_qos.pop(partition.name, None)
        if change is None or change.generation != report.generation or not report.accepted:
            return
        self._set_qos(partition, min(change.amount, self.qos_free(besides=partition.name)), now_us)
        self._publish(change, "acknowledged", now_us, "late")

    def _set_qos(self, partition: Partition, credits: int, now_us: int) -> None:
        partition.qos_credits = credits
        self.ledger.store_partition(partition)
        for credit_type in CreditType:
            self.ledger.publish_credits(partition.name, credit_type, now_us)

    def _finish(self, change: Change, reply: ConfigurationApplied | ConsoleFailure, now_us: int) -> None:
        self.queues[change.lpar].remove(change)
        self.effects.writes.append(Drop(ChangeRow, (change.lpar, change.order)))
        self.finished(change, reply)
        self._advance(change.lpar, now_us)

    def _applied(
        self, partition: Partition, change: Change, report: Reconfigured | None, now_us: int
    ) -> ConfigurationApplied:
        return ConfigurationApplied(
            lpar=change.lpar,
            generation=change.generation,
            running=report is not None,
            total_before=change.total_before,
            total_after=self.ledger.target(partition, change.credit_type),
            closed=report.closed if report else (),
            reopened=report.reopened if report else (),
            elapsed_us=now_us - change.applied_us,
        )

    def _check(self, partition: Partition, change: Change) -> ConsoleFailure | None:
        """Whether the system can give what is asked; the refusal names available, assigned and requested."""
        if change.kind is ConfigurationKind.QOS:
            return self._check_qos(partition, change.amount)
        wanted = ProcessorMode.DEDICATED if change.kind is ConfigurationKind.CPU else ProcessorMode.SHARED
        if partition.mode is not wanted:
            command = "hmc entitlement" if wanted is ProcessorMode.DEDICATED else "hmc dlpar"
            return failure("wrong_mode", f"{partition.name} has {partition.mode} processors", f"use `vasbus {command}`")
        if wanted is ProcessorMode.DEDICATED:
            return self._check_cores(partition, change.amount)
        return self._check_hundredths(partition, change.amount)

    def _check_qos(self, partition: Partition, credits: int) -> ConsoleFailure | None:
        if not 0 <= credits <= CREDIT_MAX:
            return failure("bad_amount", f"QoS credits are 0 to {CREDIT_MAX}, came {credits}", "ask within that range")
        available, extra = self.qos_free(), credits - partition.qos_credits
        if extra > available:
            return insufficient("HSCLC016", "QoS credits", available, partition.qos_credits, extra)
        return None

    def _check_cores(self, partition: Partition, delta: int) -> ConsoleFailure | None:
        if partition.cores + delta < 1:
            text = f"{partition.name} has {partition.cores} cores and keeps at least 1, came {delta:+d}"
            return failure("too_few_processors", text, "remove fewer")
        available = self.ledger.free_hundredths() // HUNDREDTHS_PER_CORE
        if delta > available:
            return insufficient("no_processors", "cores", available, partition.cores, delta)
        return None

    def _check_hundredths(self, partition: Partition, hundredths: int) -> ConsoleFailure | None:
        if hundredths < MINIMUM_HUNDREDTHS:
            text = f"a shared partition has {MINIMUM_HUNDREDTHS} hundredths or more, came {hundredths}"
            return failure("too_few_processors", text, "ask for more")
        available, extra = self.ledger.free_hundredths(), hundredths - partition.hundredths
        if extra > available:
            return insufficient("no_processors", "hundredths", available, partition.hundredths, extra)
        return None

    def _publish(self, change: Change, step: str, now_us: int, detail: str = "") -> None:
        self.effects.publish(
            ConfigurationMoved(
                at_us=now_us,
                lpar=change.lpar,
                generation=change.generation,
                kind=str(change.kind),
                step=step,
                detail=detail or f"amount {change.amount}",
            )
        )
