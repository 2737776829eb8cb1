"""Counters of what a client's windows went through."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.metrics import Histogram


@dataclass(slots=True)
class PasteTally:
    """What happened to pastes. `repeats` are messages sent again because no answer had come.

    `service` is how long accepted requests took from paste to CSB.
    """

    pastes: int = 0
    accepted: int = 0
    refused: int = 0
    faults: int = 0
    remaps: int = 0
    failed_faults: int = 0
    lost: int = 0
    repeats: int = 0
    service: Histogram = field(default_factory=Histogram)
