"""What a unit counts: pastes by what became of them, requests by completion code, bytes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from protocol.codes import CompletionCode


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

    `accepted`, `completed` and the bytes count each request once; repeats are `repeated` (still under way) or
    `recomputed` (completed before). `bytes_in` is source without history, `bytes_out` target.
    """

    accepted: int
    repeated: int
    recomputed: int
    outdated: int
    refused: Mapping[RefusalCause, int]
    faulted: Mapping[FaultCause, int]
    completed: Mapping[CompletionCode, int]
    bytes_in: int
    bytes_out: int
    fences: int
    contexts: int
    high_queued: int
    normal_queued: int
    suspended: int


@dataclass(slots=True)
class Counters:
    """The counters of a running unit; `outdated` are pastes below a window's last number, which get no answer."""

    accepted: int = 0
    repeated: int = 0
    recomputed: int = 0
    outdated: int = 0
    refused: Counter[RefusalCause] = field(default_factory=Counter)
    faulted: Counter[FaultCause] = field(default_factory=Counter)
    completed: Counter[CompletionCode] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    fences: int = 0

    def snapshot(self, contexts: int, high_queued: int, normal_queued: int, suspended: int) -> UnitStatistics:
        """Freeze the counters, with the sizes of the unit's tables beside them."""
        return UnitStatistics(
            self.accepted, self.repeated, self.recomputed, self.outdated,
            MappingProxyType(dict(self.refused)), MappingProxyType(dict(self.faulted)),
            MappingProxyType(dict(self.completed)), self.bytes_in, self.bytes_out, self.fences,
            contexts, high_queued, normal_queued, suspended,
        )  # fmt: skip
