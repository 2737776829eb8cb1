"""Changes of processors and QoS credits, and migrations: one at a time, as drmgr serialises them. Pure.

Processors: the hypervisor lowers or raises the target and tells the kernel, which then asks for its capabilities; it
does not revoke anything. QoS: the partition is told first and the pool follows only if it accepts. The next change
waits until the kernel has acknowledged this one, its session has died, or the operation's wait has expired. After an
expired wait a processor change stands: the kernel is told of it until it acknowledges. A QoS change is not told again,
but where the kernel had heard of it and accepts after all, the pool follows. A migration is given up, unless the
partition has been moved already.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hypervisor.capacity import check
from hypervisor.change import Change, ChangeState
from hypervisor.ending import ERROR_LIMIT, died, expired, refused
from hypervisor.ledger import Ledger, Partition
from hypervisor.mobility import Streams
from hypervisor.refusal import failure
from hypervisor.rows import ChangeRow, CounterRow, Drop, Put, Row
from protocol.clock import MILLISECOND_US
from protocol.codes import CreditType
from protocol.console_messages import ConfigurationApplied, ConsoleFailure
from protocol.effects import Effects
from protocol.hcall_messages import Configuration, ConfigurationKind, QueryConfiguration, Reconfigured
from protocol.listener import Listener
from protocol.message import Reply
from protocol.session import Called, Session

QUEUE_LIMIT = 64
"""Changes that wait for one partition."""


@dataclass(slots=True)
class Configurations:
    """The queues of changes. `finished(change, reply)` answers the console.

    `expired`: the newest change of a partition and type whose wait ran out while it was with the kernel.
    """

    ledger: Ledger
    link: Listener
    effects: Effects
    finished: Callable[[Change, Reply], None]
    queues: dict[str, deque[Change]] = field(default_factory=dict)
    expired: dict[tuple[str, CreditType], Change] = field(default_factory=dict)
    next_order: int = 1
    steps: Counter[tuple[ConfigurationKind, str]] = field(default_factory=Counter)
    streams: Streams = field(init=False)

    def __post_init__(self) -> None:
        self.streams = Streams(self.ledger, self.effects, self._with_kernel, self._publish)

    def restore(self, rows: list[Row], now_us: int) -> None:
        """Changes that an earlier process had begun: each waits its whole time again."""
        for row in rows:
            if isinstance(row, ChangeRow):
                self._restore(Change.from_row(row, now_us))
            elif isinstance(row, CounterRow) and row.name == "change":
                self.next_order = row.value

    def submit(self, call: Called, lpar: str, kind: ConfigurationKind, amount: int, wait_ms: int, now_us: int) -> None:
        """Queue an operation; `finished` is called when it is over, maybe at once."""
        asked = (call.session.name, call.session.epoch, call.number)
        deadline_us = now_us + wait_ms * MILLISECOND_US
        change = Change(lpar, self.next_order, kind, amount, *asked, wait_ms, deadline_us=deadline_us)
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
        self.ledger.store_partition(partition)
        change = self.expired.get((partition.name, CreditType.DEFAULT)) or self._with_kernel(partition.name)
        if not hold and change is not None:
            self._notify(change, now_us)

    def generation(self, session: Session) -> int:
        """What a beat's echo tells the kernel: the newest generation it may see."""
        partition = self.ledger.partitions[session.name]
        return partition.acknowledged if partition.held else partition.generation

    def query(self, session: Session, query: QueryConfiguration) -> Configuration:
        """The first change that the kernel, which is at the generation it names, has to apply; if there is one."""
        generation = self.generation(session)
        partition = self.ledger.partitions[session.name]
        if partition.held:
            return Configuration(generation=generation, hundredths=partition.hundredths)
        change = self.expired.get((session.name, CreditType.DEFAULT))
        if change is None or change.generation <= query.generation:
            change = self._with_kernel(session.name)
        notice = None if change is None else change.notice()
        return Configuration(generation=generation, hundredths=partition.hundredths, change=notice)

    def allocation_limit(self, partition: Partition, credit_type: CreditType) -> int:
        """How many windows may be allocated: the target, or QoS credits that the kernel has just been promised.

        The kernel hears of an increase first and reopens windows for it at once; the credits are held ready for that.
        """
        target = self.ledger.target(partition, credit_type)
        change = self._with_kernel(partition.name)
        if change is None or change.kind is not ConfigurationKind.QOS or credit_type is not CreditType.QOS:
            return target
        return max(target, change.amount)

    def reconfigured(self, session: Session, report: Reconfigured, now_us: int) -> None:
        """The kernel has applied a generation, or refused it."""
        partition = self.ledger.partitions[session.name]
        if report.generation > partition.acknowledged:
            partition.acknowledged = min(report.generation, partition.generation)
            self.ledger.store_partition(partition)
        change = self._with_kernel(session.name)
        if change is not None and change.generation == report.generation:
            self._acknowledged(partition, change, report, now_us)
        else:
            self._late(partition, report, now_us)
        self.streams.reported(partition.name, report.generation)
        late = self.expired.get((partition.name, CreditType.DEFAULT))
        if late is not None and late.generation <= partition.acknowledged:
            self._publish(late, "acknowledged", now_us, "late")
            self._forget(late)

    def partition_died(self, lpar: str, now_us: int) -> None:
        """The kernel's session is over: what it had not acknowledged has effect at its next start."""
        for change in [change for change in self.expired.values() if change.lpar == lpar]:
            self._forget(change)
        self.streams.partition_died(lpar)
        waiting = self._with_kernel(lpar)
        if waiting is None:
            return
        partition = self.ledger.partitions[lpar]
        if waiting.kind is ConfigurationKind.QOS:
            self._set_qos(partition, waiting.amount, now_us)
        self._publish(waiting, "died", now_us)
        failed = died(waiting, is_slot=lpar in self.ledger.slot_names)
        if failed is not None:
            self._finish(waiting, failed, now_us)
            return
        total = self.ledger.target(partition, waiting.credit_type)
        self._finish(waiting, waiting.outcome(total, None, now_us), now_us)

    def partition_started(self, lpar: str) -> None:
        """A new kernel reads everything at its start: it has acknowledged whatever is not to be told to it yet."""
        waiting = self._with_kernel(lpar)
        self._acknowledge(self.ledger.partitions[lpar], None if waiting is None else waiting.generation - 1)

    def tick(self, now_us: int) -> None:
        """End operations whose wait has expired: those in the queue first, so that none begins only to end."""
        for queue in list(self.queues.values()):
            for change in [change for change in reversed(queue) if now_us >= change.deadline_us]:
                self._expire(change, now_us)

    def wake_us(self) -> int | None:
        return min((change.deadline_us for queue in self.queues.values() for change in queue), default=None)

    def qos_free(self, besides: str | None = None) -> int:
        """QoS credits of the system that nobody has or is being promised; negative on a system that has shrunk."""
        taken = 0
        for partition in self.ledger.present:
            promised = [change.amount for change in self.queues.get(partition.name, ()) if change.is_qos_promise]
            taken += 0 if partition.name == besides else max([partition.qos_credits, *promised])
        return self.ledger.system.qos_credits - taken

    # Steps.

    def _restore(self, change: Change) -> None:
        if change.lpar not in self.ledger.partitions:
            self.effects.writes.append(Drop(ChangeRow, (change.lpar, change.order)))
        elif change.state is ChangeState.EXPIRED and change.kind is ConfigurationKind.MIGRATION:
            self.streams.give_up(change)
        elif change.state is ChangeState.EXPIRED:
            self.expired[change.lpar, change.credit_type] = change
        else:
            self.queues.setdefault(change.lpar, deque()).append(change)

    def _acknowledge(self, partition: Partition, generation: int | None = None) -> None:
        """Take it that the kernel is at this generation, the newest where none is given."""
        reached = partition.generation if generation is None else generation
        if partition.acknowledged != reached:
            partition.acknowledged = reached
            self.ledger.store_partition(partition)

    def _with_kernel(self, lpar: str) -> Change | None:
        queue = self.queues.get(lpar)
        return queue[0] if queue and queue[0].waits_for_kernel else None

    def _advance(self, lpar: str, now_us: int) -> None:
        """Begin the first change of the queue, unless one is with the kernel."""
        queue = self.queues[lpar]
        while queue and queue[0].state is ChangeState.QUEUED:
            self._begin(queue[0], now_us)

    def _begin(self, change: Change, now_us: int) -> None:
        partition = self.ledger.partitions[change.lpar]
        running = change.lpar in self.link.sessions
        refusal = check(self.ledger, partition, change, self.qos_free(), running=running)
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
        if running:
            self._notify(change, now_us)
        else:
            self._acknowledge(partition)
            self.partition_died(change.lpar, now_us)

    def _notify(self, change: Change, now_us: int) -> None:
        partition = self.ledger.partitions[change.lpar]
        session = self.link.sessions.get(change.lpar)
        if partition.held or session is None:
            self._publish(change, "held" if partition.held else "unheard", now_us)
            return
        self.link.notify(session, change.notice())
        self._publish(change, "notified", now_us)

    def _acknowledged(self, partition: Partition, change: Change, report: Reconfigured, now_us: int) -> None:
        accepted = report.accepted
        if change.kind is ConfigurationKind.MIGRATION:
            accepted = change.state is ChangeState.MOVED  # by this write or by another process's
        self._publish(change, "acknowledged" if accepted else "refused", now_us, report.error[:ERROR_LIMIT])
        if not accepted:
            self._finish(change, refused(change, report.error), now_us)
            return
        if change.kind is ConfigurationKind.QOS:
            self._set_qos(partition, change.amount, now_us)
            self._forget(self.expired.get((change.lpar, CreditType.QOS)))
        total = self.ledger.target(partition, change.credit_type)
        self._finish(change, change.outcome(total, report, now_us), now_us)

    def _late(self, partition: Partition, report: Reconfigured, now_us: int) -> None:
        """A QoS change whose wait had expired was accepted after all: the kernel uses it, so the pool follows."""
        change = self.expired.get((partition.name, CreditType.QOS))
        if change is None or change.generation != report.generation:
            return
        self._forget(change)
        if report.accepted:
            credits = max(0, min(change.amount, self.qos_free(besides=partition.name)))
            self._set_qos(partition, credits, now_us)
        self._publish(change, "acknowledged" if report.accepted else "refused", now_us, "late")

    def _expire(self, change: Change, now_us: int) -> None:
        reply = expired(change)
        if change.waits_for_kernel and change.state is not ChangeState.MOVED:
            change.state = ChangeState.EXPIRED
            if change.kind is ConfigurationKind.MIGRATION:
                self.streams.give_up(change)
            else:
                self._forget(self.expired.get((change.lpar, change.credit_type)))
                self.expired[change.lpar, change.credit_type] = change
        self._publish(change, "expired", now_us)
        self._finish(change, reply, now_us)

    def _forget(self, change: Change | None) -> None:
        """Nothing more is expected of an expired change."""
        if change is not None:
            del self.expired[change.lpar, change.credit_type]
            self.effects.writes.append(Drop(ChangeRow, (change.lpar, change.order)))

    def _set_qos(self, partition: Partition, credits: int, now_us: int) -> None:
        partition.qos_credits = credits
        self.ledger.store_partition(partition)
        for credit_type in CreditType:
            self.ledger.publish_credits(partition.name, credit_type, now_us)

    def _finish(self, change: Change, reply: ConfigurationApplied | ConsoleFailure, now_us: int) -> None:
        self.queues[change.lpar].remove(change)
        expired = change.state is ChangeState.EXPIRED
        row = Put(change.row()) if expired else Drop(ChangeRow, (change.lpar, change.order))
        self.effects.writes.append(row)
        self.finished(change, reply)
        self._advance(change.lpar, now_us)

    def _publish(self, change: Change, step: str, now_us: int, detail: str = "") -> None:
        self.steps[change.kind, step] += 1
        self.effects.publish(change.moved(step, now_us, detail))
