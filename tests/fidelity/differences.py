"""Behaviour of the real system that no test shows here, because there is nothing to show: each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One behaviour of the real system (`real`, written in `source`) that is missing or another here, and why."""

    section: str
    real: str
    source: str
    differs: str


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "3 ioctl",
        "A bad user pointer is EFAULT.",
        source="T:api",
        differs="The attributes come in a message: what cannot be decoded is refused with MALFORMED.",
    ),
)
