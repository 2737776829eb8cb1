"""Translation faults: which absent page of its operands a request touches first. Pure.

The engine reads history and source in order and writes the target as output arises (user's manual p. 46-47). So an
absent source page is touched when everything before it has been used up without reaching an end or a limit, and an
absent target page when there is output for it. Pages that the request never gets to do not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from nxunit.job import TranslationFault
from protocol.codes import Operand
from protocol.paste_messages import PAGE_BYTES, Crb

ADDRESS_SPACE = 1 << 64
"""Addresses wrap around: the sender may name any, and a fault's must fit its field."""


class Reach(Enum):
    """Where the beginning of a request takes it."""

    ROOM = auto()
    """There is more output than the room given."""
    STOP = auto()
    """It stops by itself: the data's end, bad data, or the byte-count limit."""
    SOURCE = auto()
    """It has used up the source given and needs more."""


Attempt = Callable[[int, int], Reach]
"""Try a request on the first bytes of its frame, with room for so many bytes of output."""


def first_absent(pages: bytes, operand_bytes: int) -> int | None:
    """The offset of the first absent page of an operand, which is that long; None where all its pages are present."""
    pages_told = 8 * len(pages)
    pages_used = -(-operand_bytes // PAGE_BYTES)
    for page in range(min(pages_told, pages_used)):
        if not pages[page // 8] >> page % 8 & 1:
            return page * PAGE_BYTES
    return None


def find_data_fault(crb: Crb, frame_bytes: int, room_bytes: int, attempt: Attempt) -> TranslationFault | None:
    """The fault of a request with a frame of `frame_bytes` that writes at most `room_bytes`.

    `attempt` is asked once, and only where a page within these sizes is absent.
    """
    source_gap = first_absent(crb.source_pages, frame_bytes)
    target_gap = first_absent(crb.target_pages, room_bytes)
    if source_gap is None and target_gap is None:
        return None
    readable_bytes = frame_bytes if source_gap is None else source_gap
    reach = attempt(readable_bytes, room_bytes if target_gap is None else target_gap)
    if reach is Reach.ROOM and target_gap is not None:
        return TranslationFault(Operand.TARGET, (crb.target_address + target_gap) % ADDRESS_SPACE)
    if reach is Reach.SOURCE and source_gap is not None:
        return TranslationFault(Operand.SOURCE, (crb.source_address + source_gap) % ADDRESS_SPACE)
    return None


def find_csb_fault(crb: Crb) -> TranslationFault | None:
    """The fault of a finished request whose status block cannot be written; address 0 is mapped nowhere."""
    if crb.csb_present and crb.csb_address:
        return None
    return TranslationFault(Operand.CSB, crb.csb_address)
