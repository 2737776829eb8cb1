"""What a unit counts: pastes by what became of them, requests by completion code, faults, bytes, times. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from nxunit.fifo import Priority
from nxunit.job import FORCE_LOW_LIMIT
from protocol.codes import CompletionCode, FunctionCode, Operand
from protocol.metrics import Histogram

UNKNOWN_FUNCTION = "unknown"


class RefusalCause(StrEnum):
    """Why a paste was refused (CR0 = 0). The sender is not told which, as on the hardware."""

    NO_WINDOW_CREDIT = "no_window_credit"
    FIFO_FULL = "fifo_full"
    STOPPING = "stopping"


class FaultCause(StrEnum):
    """Why a paste faulted."""

    UNKNOWN_WINDOW = "unknown_window"
    WRONG_TOKEN = "wrong_token"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    """A unit's counters since its start, and its tables as they are now.

    `accepted`, `completed`, `translation_faults` and the bytes count each request once; repeats are `repeated` (still
    under way, or stopped by a translation fault) or `recomputed` (completed before). A repeat's own translation fault
    counts too, as it has its own status block. `bytes_in` is source without history, `bytes_out` target.
    `faults_outstanding` wait for their window credit to be returned.
    """

    accepted: int
    repeated: int
    recomputed: int
    outdated: int
    refused: Mapping[RefusalCause, int]
    faulted: Mapping[FaultCause, int]
    completed: Mapping[CompletionCode, int]
    translation_faults: Mapping[Operand, int]
    bytes_in: int
    bytes_out: int
    fences: int
    contexts: int
    high_queued: int
    normal_queued: int
    suspended: int
    faults_outstanding: int


def function_name(function: int) -> str:
    """A function code's name without its limit bit; `unknown` for the codes that there are not."""
    try:
        return FunctionCode(function & ~FORCE_LOW_LIMIT).name
    except ValueError:
        return UNKNOWN_FUNCTION


@dataclass(slots=True)
class Counters:
    """The counters of a running unit; `outdated` are late copies of pastes that a window was done with."""

    accepted: int = 0
    repeated: int = 0
    recomputed: int = 0
    outdated: int = 0
    refused: Counter[RefusalCause] = field(default_factory=Counter)
    faulted: Counter[FaultCause] = field(default_factory=Counter)
    completed: Counter[CompletionCode] = field(default_factory=Counter)
    translation_faults: Counter[Operand] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    fences: int = 0
    queue_time: dict[Priority, Histogram] = field(default_factory=lambda: {each: Histogram() for each in Priority})
    job_time: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))

    def observe_job(self, function: int, duration_us: int) -> None:
        """Count the time that a job took, under its function."""
        self.job_time[function_name(function)].observe(duration_us)

    def snapshot(
        self, contexts: int, high_queued: int, normal_queued: int, suspended: int, faults_outstanding: int
    ) -> UnitStatistics:
        """Freeze the counters, with the sizes of the unit's tables beside them."""
        return UnitStatistics(
            self.accepted, self.repeated, self.recomputed, self.outdated,
            MappingProxyType(dict(self.refused)), MappingProxyType(dict(self.faulted)),
            MappingProxyType(dict(self.completed)), MappingProxyType(dict(self.translation_faults)), self.bytes_in,
            self.bytes_out, self.fences, contexts, high_queued, normal_queued, suspended, faults_outstanding,
        )  # fmt: skip
