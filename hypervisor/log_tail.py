"""What of a write-ahead log SQLite does not use, because no whole commit is there. Pure (fileformat2.html, "WAL").

The log begins anew after each checkpoint and overwrites itself from the front, so that frames of an earlier one may
stand behind the last commit: their salts are older. They are no loss, as they are in the ledger already.
"""

from __future__ import annotations

import struct

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
MAGICS = {0x377F_0682: "<", 0x377F_0683: ">"}
"""The first word says in which byte order the words are summed up."""
WORD = 1 << 32
EARLIER_LOGS = 1 << 16
"""How far back an earlier log may be: its first salt is lower by one for each."""


def dropped_bytes(log: bytes, frames: int, page_bytes: int) -> int:
    """The bytes that a crash left of commits that were not whole, `frames` being those up to the last whole one."""
    salts = _salts(log)
    if salts is None:
        return len(log)
    frame_bytes = FRAME_HEADER_BYTES + page_bytes
    begin = place = HEADER_BYTES + frames * frame_bytes
    while place < len(log):
        header = log[place : place + FRAME_HEADER_BYTES]
        if len(header) == FRAME_HEADER_BYTES and _is_earlier(header, salts):
            break
        place += frame_bytes
    return max(0, min(place, len(log)) - begin)


def _salts(log: bytes) -> tuple[int, int] | None:
    """The log's two salts; None where it does not begin as one."""
    if len(log) < HEADER_BYTES:
        return None
    magic, _version, _page, _sequence, first, second, *sums = struct.unpack(">8I", log[:HEADER_BYTES])
    order = MAGICS.get(magic)
    if order is None or _sums(struct.unpack(f"{order}6I", log[:24])) != tuple(sums):
        return None
    return first, second


def _sums(words: tuple[int, ...]) -> tuple[int, int]:
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) % WORD
        second = (second + odd + first) % WORD
    return first, second


def _is_earlier(header: bytes, salts: tuple[int, int]) -> bool:
    found, other = struct.unpack(">2I", header[8:16])
    return (found, other) != salts and 0 < (salts[0] - found) % WORD <= EARLIER_LOGS
