"""One operation of the console on a partition's configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hypervisor.rows import ChangeRow
from protocol.clock import MILLISECOND_US
from protocol.codes import CreditType
from protocol.console_messages import ConfigurationApplied
from protocol.hcall_messages import ConfigurationChange, ConfigurationKind, Reconfigured
from protocol.telemetry_messages import ConfigurationMoved


class ChangeState(StrEnum):
    """QUEUED behind another change; with the kernel, whose acknowledgement it waits for; or EXPIRED without one.

    A migration with its kernel becomes MOVED when the partition has been moved, or ABORTED when it has been cancelled.
    """

    QUEUED = "queued"
    WITH_KERNEL = "with_kernel"
    MOVED = "moved"
    ABORTED = "aborted"
    EXPIRED = "expired"


@dataclass(slots=True)
class Change:
    """`amount`: cores to add (may be negative), hundredths, QoS credits, or milliseconds that a migration is to hold.

    `console`, `epoch`, `number`: who asked. `asked_us`: when the kernel first asked after its migration; not stored.
    """

    lpar: str
    order: int
    kind: ConfigurationKind
    amount: int
    console: str
    epoch: int
    number: int
    wait_ms: int
    generation: int = 0
    state: ChangeState = ChangeState.QUEUED
    total_before: int = 0
    deadline_us: int = 0
    applied_us: int = 0
    asked_us: int | None = None

    @property
    def credit_type(self) -> CreditType:
        return CreditType.QOS if self.kind is ConfigurationKind.QOS else CreditType.DEFAULT

    @property
    def waits_for_kernel(self) -> bool:
        """Whether it is the change that the kernel has been told of and has not reported."""
        return self.state in (ChangeState.WITH_KERNEL, ChangeState.MOVED, ChangeState.ABORTED)

    @property
    def is_qos_promise(self) -> bool:
        """Whether the amount is kept for the partition although its pool does not have it yet."""
        return self.kind is ConfigurationKind.QOS and self.state is ChangeState.WITH_KERNEL

    def notice(self) -> ConfigurationChange:
        """What the kernel is told of it."""
        amount = 0 if self.kind is ConfigurationKind.CPU else self.amount
        return ConfigurationChange(generation=self.generation, kind=self.kind, amount=amount)

    def outcome(self, total_after: int, report: Reconfigured | None, now_us: int) -> ConfigurationApplied:
        """What the console is told in the end; no report: the partition was not running."""
        return ConfigurationApplied(
            lpar=self.lpar,
            generation=self.generation,
            running=report is not None,
            total_before=self.total_before,
            total_after=total_after,
            closed=report.closed if report else (),
            reopened=report.reopened if report else (),
            elapsed_us=now_us - self.applied_us,
        )

    def moved(self, step: str, now_us: int, detail: str) -> ConfigurationMoved:
        """A step of it for the telemetry stream."""
        return ConfigurationMoved(
            at_us=now_us,
            lpar=self.lpar,
            generation=self.generation,
            kind=str(self.kind),
            step=step,
            detail=detail or f"amount {self.amount}",
        )

    def row(self) -> ChangeRow:
        return ChangeRow(
            self.lpar, self.order, str(self.kind), self.amount, self.generation, str(self.state), self.total_before,
            self.console, self.epoch, self.number, self.wait_ms,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: ChangeRow, now_us: int) -> Change:
        """As an earlier process stored it; it waits its whole time again."""
        return cls(
            row.lpar, row.order, ConfigurationKind(row.kind), row.amount, row.console, row.epoch, row.number,
            row.wait_ms, row.generation, ChangeState(row.state), row.total_before,
            now_us + row.wait_ms * MILLISECOND_US, now_us,
        )  # fmt: skip
