"""A unit's counters and tables as metrics. Pure."""

from __future__ import annotations

from collections import Counter

from nxunit.context import ContextTable
from nxunit.fifo import Priority, ReceiveFifos
from nxunit.statistics import Counters, FaultCause, RefusalCause
from protocol.codes import CompletionCode, CreditType, Operand
from protocol.metrics import Distribution, Family, MetricKind, counter, gauge, labelled


def unit_metrics(counters: Counters, contexts: ContextTable, fifos: ReceiveFifos, outstanding: int) -> list[Family]:
    """Everything that a unit has to show; `outstanding` is the number of translation faults that it holds.

    Each label value that can come is there from the start, except functions, which appear with their first job.
    """
    return [*_requests(counters), *_tables(contexts, fifos, outstanding), *_times(counters)]


def _requests(counters: Counters) -> list[Family]:
    kind = MetricKind.COUNTER
    return [
        labelled(
            kind, "vasbus_nx_pastes_total", "pastes by what became of them on arrival", ("outcome",), _pastes(counters)
        ),
        labelled(
            kind, "vasbus_nx_requests_total", "completed requests by completion code, repeats left out", ("code",),
            {(code.name,): counters.completed[code] for code in CompletionCode
             if code is not CompletionCode.TRANSLATION_FAULT},
        ),
        labelled(
            kind, "vasbus_nx_translation_faults_total", "requests stopped at an absent page", ("operand",),
            {(operand.value,): counters.translation_faults[operand] for operand in Operand},
        ),
        counter("vasbus_nx_source_bytes_total", "source processed, without history", counters.bytes_in),
        counter("vasbus_nx_target_bytes_total", "target written", counters.bytes_out),
        counter("vasbus_nx_fences_total", "times that the unit fenced itself", counters.fences),
    ]  # fmt: skip


def _pastes(counters: Counters) -> dict[tuple[str, ...], float | Distribution]:
    outcomes: dict[tuple[str, ...], float | Distribution] = {
        ("accepted",): counters.accepted,
        ("repeated",): counters.repeated,
        ("recomputed",): counters.recomputed,
        ("outdated",): counters.outdated,
    }
    outcomes |= {(f"refused_{cause}",): counters.refused[cause] for cause in RefusalCause}
    outcomes |= {(f"faulted_{cause}",): counters.faulted[cause] for cause in FaultCause}
    return outcomes


def _tables(contexts: ContextTable, fifos: ReceiveFifos, outstanding: int) -> list[Family]:
    kind = MetricKind.GAUGE
    types = Counter(context.credit_type for context in contexts)
    return [
        labelled(
            kind, "vasbus_nx_fifo_requests", "requests that wait in a receive FIFO", ("priority",),
            {(priority.value,): len(fifos.queue(priority)) for priority in Priority},
        ),
        labelled(
            kind, "vasbus_nx_fifo_slots", "requests that a receive FIFO takes", ("priority",),
            {(priority.value,): fifos.slots(priority) for priority in Priority},
        ),
        labelled(
            kind, "vasbus_nx_contexts", "window contexts", ("type",),
            {(credit_type.name.lower(),): types[credit_type] for credit_type in CreditType},
        ),
        gauge("vasbus_nx_faults_outstanding", "translation faults whose window credit is not back", outstanding),
    ]  # fmt: skip


def _times(counters: Counters) -> list[Family]:
    kind = MetricKind.HISTOGRAM
    return [
        labelled(
            kind, "vasbus_nx_queue_seconds", "time from a paste's acceptance until the engine takes it", ("priority",),
            {(priority.value,): histogram.picture() for priority, histogram in counters.queue_time.items()},
        ),
        labelled(
            kind, "vasbus_nx_job_seconds", "time that the engine takes for a request", ("function",),
            {(function,): histogram.picture() for function, histogram in counters.job_time.items()},
        ),
    ]  # fmt: skip
