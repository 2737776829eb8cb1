"""What the driver has done since the partition started."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum

from lpar.pool import Pool
from protocol.codes import CreditType, FaultOutcome, Hcall, HcallCode, KernelReason
from protocol.metrics import Histogram


class NxFaultEnd(StrEnum):
    """What became of a translation fault: its process was told, killed, gone or takes nothing; or it stays unknown."""

    REPORTED = "reported"
    SIGNALLED = "signalled"
    NOBODY = "nobody"
    DROPPED = "dropped"
    NOT_FETCHED = "not_fetched"


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The counters of one credit type at one moment."""

    total: int
    used: int
    open: int
    closed: int
    progress: int


@dataclass(frozen=True, slots=True)
class KernelStatistics:
    """A snapshot.

    `opens` are windows opened, `released` windows given up by their owners, `leaked` those whose deallocation failed at
    that; `closed` and `reopened` count what reconfiguration and migration did. `hcalls` counts returns, busy ones too.
    `nx_faults` are translation faults by their end, `pending_faults` those of which the kernel knows the interrupt
    only; `killed` are processes that a signal ended.
    """

    opens: int
    released: int
    leaked: int
    closed: int
    reopened: int
    refusals: dict[KernelReason, int]
    faults: dict[FaultOutcome, int]
    hcalls: dict[HcallCode, int]
    nx_faults: dict[NxFaultEnd, int]
    pending_faults: int
    killed: int
    pools: dict[CreditType, PoolStatistics]
    processes: int
    waiting_for_mutex: int


@dataclass(slots=True)
class Tally:
    """The running counts behind KernelStatistics."""

    opens: int = 0
    released: int = 0
    leaked: int = 0
    closed: int = 0
    reopened: int = 0
    refusals: Counter[KernelReason] = field(default_factory=Counter)
    faults: Counter[FaultOutcome] = field(default_factory=Counter)
    hcalls: Counter[HcallCode] = field(default_factory=Counter)
    nx_faults: Counter[NxFaultEnd] = field(default_factory=Counter)
    killed: int = 0
    open_us: Histogram = field(default_factory=Histogram)
    reconfigure_us: Histogram = field(default_factory=Histogram)
    hcall_us: dict[Hcall, Histogram] = field(default_factory=lambda: defaultdict(Histogram))

    def hcall_returned(self, hcall: Hcall, code: HcallCode, duration_us: int) -> None:
        """One return: each round of a busy loop is one."""
        self.hcalls[code] += 1
        self.hcall_us[hcall].observe(duration_us)


def snapshot(
    tally: Tally, pools: dict[CreditType, Pool], processes: int, waiting: int, pending_faults: int
) -> KernelStatistics:
    """Freeze the counts of this moment."""
    return KernelStatistics(
        opens=tally.opens,
        released=tally.released,
        leaked=tally.leaked,
        closed=tally.closed,
        reopened=tally.reopened,
        refusals=dict(tally.refusals),
        faults=dict(tally.faults),
        hcalls=dict(tally.hcalls),
        nx_faults=dict(tally.nx_faults),
        pending_faults=pending_faults,
        killed=tally.killed,
        pools={
            credit_type: PoolStatistics(pool.total, pool.used, pool.nr_open, pool.nr_close, pool.progress)
            for credit_type, pool in pools.items()
        },
        processes=processes,
        waiting_for_mutex=waiting,
    )
