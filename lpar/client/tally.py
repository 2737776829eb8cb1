"""Counters of what a client's windows went through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PasteTally:
    """What happened to pastes. `repeats` are messages sent again because no answer had come."""

    pastes: int = 0
    accepted: int = 0
    refused: int = 0
    faults: int = 0
    remaps: int = 0
    failed_faults: int = 0
    lost: int = 0
    repeats: int = 0
