"""Which of an NxGzip's work goes to the accelerator: libnxz's selector, with its names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocol.codes import FallbackReason


class Mode(StrEnum):
    """AUTO falls back to software; NX does not; MIX compresses as NX and decompresses in software."""

    AUTO = "auto"
    SOFTWARE = "software"
    NX = "nx"
    MIX = "mix"


@dataclass(frozen=True, slots=True)
class Selection:
    """The rule for one direction.

    `always_software`: nothing goes to the accelerator. `strict`: what the accelerator does not do is an error.
    `small_bytes`: a call with at most this much input stays in software.
    """

    always_software: bool
    strict: bool
    small_bytes: int

    def software_reason(self, length: int) -> FallbackReason | None:
        """Why a call with this much input does not even try the accelerator; None if it does."""
        if self.always_software:
            return FallbackReason.MODE
        return FallbackReason.SMALL if length <= self.small_bytes else None


def selections(mode: Mode, small_bytes: int) -> tuple[Selection, Selection]:
    """The rules for compressing and for decompressing. Only AUTO keeps small calls in software, as libnxz does."""
    software, strict = Selection(True, False, 0), Selection(False, True, -1)
    if mode is Mode.SOFTWARE:
        return software, software
    if mode is Mode.NX:
        return strict, strict
    if mode is Mode.MIX:
        return strict, software
    automatic = Selection(False, False, small_bytes)
    return automatic, automatic
