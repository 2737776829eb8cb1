"""What the driver has done since the partition started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lpar.pool import Pool
from protocol.codes import CreditType, FaultOutcome, HcallCode, KernelReason


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
    """

    opens: int
    released: int
    leaked: int
    closed: int
    reopened: int
    refusals: dict[KernelReason, int]
    faults: dict[FaultOutcome, int]
    hcalls: dict[HcallCode, int]
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


def snapshot(tally: Tally, pools: dict[CreditType, Pool], processes: int, waiting: int) -> KernelStatistics:
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
        pools={
            credit_type: PoolStatistics(pool.total, pool.used, pool.nr_open, pool.nr_close, pool.progress)
            for credit_type, pool in pools.items()
        },
        processes=processes,
        waiting_for_mutex=waiting,
    )
