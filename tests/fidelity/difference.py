"""What a difference without a test is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One behaviour of the real system (`real`, written in `source`) that is missing or another here, and why."""

    section: str
    real: str
    source: str
    differs: str
