"""Raw deflate with the block type that was asked for."""

from __future__ import annotations

from enum import IntEnum
from typing import cast

from isal import isal_zlib

RAW = -isal_zlib.MAX_WBITS
DYNAMIC_LEVEL = 2
"""ISA-L's level for dynamic tables: level 3 costs twice the time for 5 % less output, level 1 saves nothing."""
MEMORY_LEVEL = 9
SYNC_FLUSH_BYTES = 5
"""An empty stored block from its header's byte on: how a part ends that is not the last."""
IsalError = cast("type[Exception]", isal_zlib.error)
"""What ISA-L's functions raise; the package's own type stub calls it an instance."""


class BlockType(IntEnum):
    """BTYPE of a deflate block header (RFC 1951, section 3.2.3)."""

    STORED = 0
    FIXED = 1
    DYNAMIC = 2


def first_block_type(stream: bytes) -> BlockType:
    """The type of a raw deflate stream's first block. Raises IndexError for an empty stream."""
    return BlockType(stream[0] >> 1 & 3)


def deflate(source: bytes | memoryview, history: bytes | memoryview, block_type: BlockType, *, final: bool) -> bytes:
    """Compress `source`; matches may reach into `history`.

    The first block has the type asked for, also for data that grows by it, as the hardware does not choose. `final`
    finishes the stream; otherwise it ends byte-aligned on an empty stored block, so that a next part can follow.
    """
    if block_type is BlockType.FIXED:
        return _deflate(source, history, 0, isal_zlib.Z_FIXED, final)
    output = _deflate(source, history, DYNAMIC_LEVEL, isal_zlib.Z_DEFAULT_STRATEGY, final)
    if first_block_type(output) is BlockType.DYNAMIC:
        return output
    # Levels 1 to 3 choose stored or fixed blocks where those are smaller; level 0 has one dynamic table and no choice.
    return _deflate(source, history, 0, isal_zlib.Z_DEFAULT_STRATEGY, final)


def _deflate(source: bytes | memoryview, history: bytes | memoryview, level: int, strategy: int, final: bool) -> bytes:
    arguments = (level, isal_zlib.DEFLATED, RAW, MEMORY_LEVEL, strategy)
    machine = isal_zlib.compressobj(*arguments, history) if history else isal_zlib.compressobj(*arguments)
    return machine.compress(source) + machine.flush(isal_zlib.Z_FINISH if final else isal_zlib.Z_SYNC_FLUSH)
