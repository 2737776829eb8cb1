"""A partition's counts as metrics: what this boot of its kernel has done, and what it holds now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lpar.driver import VasDriver
from lpar.pool import Pool
from lpar.statistics import NxFaultEnd, Tally
from protocol.codes import FaultOutcome, KernelReason
from protocol.metrics import Family, MetricKind, Sample, counter, gauge, labelled


def metrics_of(driver: VasDriver, processes: int) -> list[Family]:
    """All families of a partition. Credit types that the partition does not have are left out."""
    tally, pools = driver.tally, [pool for pool in driver.pools.values() if pool.present]
    return [
        credits_of(pools),
        windows_of(pools),
        *counts_of(tally),
        gauge("vasbus_lpar_processes", "Client processes with a session", processes),
        gauge("vasbus_lpar_mutex_waiting", "Operations that wait for the driver's mutex", len(driver.mutex)),
        *latencies_of(tally),
    ]


def credits_of(pools: Iterable[Pool]) -> Family:
    """nr_total_credits and nr_used_credits of each type."""
    values: dict[tuple[str, ...], float] = {}
    for pool in pools:
        values[type_of(pool), "total"] = pool.total
        values[type_of(pool), "used"] = pool.used
    meaning = "Credits as sysfs shows them; used may exceed total while windows are closed"
    return labelled(MetricKind.GAUGE, "vasbus_lpar_credits", meaning, ("type", "which"), values)


def windows_of(pools: Iterable[Pool]) -> Family:
    """Windows by what they are now, not by the driver's counters, which may stray after failed hcalls as in Linux."""
    values: dict[tuple[str, ...], float] = {}
    for pool in pools:
        active = sum(window.is_active for window in pool.newest_first())
        values[type_of(pool), "active"] = active
        values[type_of(pool), "closed"] = len(pool) - active
        values[type_of(pool), "opening"] = pool.used - len(pool)
    meaning = "Windows: active, closed for lost credit or migration, or being opened"
    return labelled(MetricKind.GAUGE, "vasbus_lpar_windows", meaning, ("type", "state"), values)


def counts_of(tally: Tally) -> list[Family]:
    """Everything that only rises. Closed lists of labels are complete, so that a rate is known from the start."""
    fetched = sum(count for end, count in tally.nx_faults.items() if end is not NxFaultEnd.NOT_FETCHED)
    return [
        counter("vasbus_lpar_opens_total", "Windows opened", tally.opens),
        counter("vasbus_lpar_releases_total", "Windows given up by their owners", tally.released),
        counter("vasbus_lpar_closed_total", "Windows closed for lost credit or migration", tally.closed),
        counter("vasbus_lpar_reopened_total", "Windows reopened", tally.reopened),
        counted("vasbus_lpar_refusals_total", "System calls that failed", "reason", KernelReason, tally.refusals),
        counted("vasbus_lpar_page_faults_total", "Page faults on mappings", "outcome", FaultOutcome, tally.faults),
        counter("vasbus_lpar_nx_faults_total", "Translation faults fetched from the hypervisor", fetched),
        labelled(
            MetricKind.COUNTER,
            "vasbus_lpar_hcalls_total",
            "Returns of hcalls, each round of a busy loop being one",
            ("code",),
            {(code.name,): count for code, count in tally.hcalls.items()},
        ),
    ]


def latencies_of(tally: Tally) -> list[Family]:
    """How long things took, waits for the mutex and the hypervisor included."""
    return [
        Family(
            "vasbus_lpar_open_seconds",
            MetricKind.HISTOGRAM,
            "VAS_TX_WIN_OPEN from its first step to its outcome",
            (),
            (Sample((), tally.open_us.picture()),),
        ),
        Family(
            "vasbus_lpar_reconfigure_seconds",
            MetricKind.HISTOGRAM,
            "Changes of a type's total credits",
            (),
            (Sample((), tally.reconfigure_us.picture()),),
        ),
        labelled(
            MetricKind.HISTOGRAM,
            "vasbus_lpar_hcall_seconds",
            "Hcalls from call to return, each round of a busy loop being one",
            ("hcall",),
            {(hcall.name,): histogram.picture() for hcall, histogram in tally.hcall_us.items()},
        ),
    ]


def counted(
    name: str,
    meaning: str,
    label: str,
    codes: type[KernelReason] | type[FaultOutcome],
    counts: Counter[KernelReason] | Counter[FaultOutcome],
) -> Family:
    """A counter with one value for each member of a closed list."""
    by_value = {str(code.value): count for code, count in counts.items()}
    values: dict[tuple[str, ...], float] = {(str(code.value),): by_value.get(str(code.value), 0) for code in codes}
    return labelled(MetricKind.COUNTER, name, meaning, (label,), values)


def type_of(pool: Pool) -> str:
    return pool.credit_type.name.lower()
