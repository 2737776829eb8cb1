"""The software codecs: zlib, and LZO through python-lzo where it is installed."""

from __future__ import annotations

import importlib
import zlib
from typing import Any

from lpar.client.codec import Bytes, Inflation
from lpar.client.errors import CodecMissing, CorruptData, OutputLimit, TruncatedData

RAW = -zlib.MAX_WBITS
SLICE_BYTES = 1 << 20
LZO_LEVEL = 1
LZO_MISSING = "LZO needs the package python-lzo (built with the headers of liblzo2-dev)"


class Software:
    """zlib at `level` (0-9) for deflate; LZO is loaded when it is first used."""

    def __init__(self, level: int = 6) -> None:
        if not 0 <= level <= 9:
            raise ValueError(f"level is 0 to 9, not {level}")
        self.level = level
        self._lzo: Any = None

    def deflate(self, source: Bytes, history: Bytes, *, final: bool) -> bytes:
        if history:
            machine = zlib.compressobj(self.level, zlib.DEFLATED, RAW, zdict=history)
        else:
            machine = zlib.compressobj(self.level, zlib.DEFLATED, RAW)
        return machine.compress(source) + machine.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)

    def inflate(self, source: Bytes, skip_bytes: int, room_bytes: int) -> Inflation:
        machine = zlib.decompressobj(RAW)
        pieces: list[bytes] = []
        produced_bytes, crc, adler = 0, 0, 1
        rest: Bytes = source
        while not machine.eof:
            try:
                piece = machine.decompress(rest, SLICE_BYTES)
            except zlib.error as error:
                raise CorruptData(f"the deflate stream is damaged: {error}") from None
            rest = machine.unconsumed_tail
            if not piece and not rest and not machine.eof:
                raise TruncatedData("the deflate stream has no end")
            crc, adler = zlib.crc32(piece, crc), zlib.adler32(piece, adler)
            pieces.append(piece[max(0, skip_bytes - produced_bytes) :])
            produced_bytes += len(piece)
            if produced_bytes > skip_bytes + room_bytes:
                raise OutputLimit(f"more than {room_bytes} bytes would come out")
        consumed_bytes = len(source) - len(machine.unused_data)
        return Inflation(b"".join(pieces), min(skip_bytes, produced_bytes), consumed_bytes, crc, adler)

    def crc32(self, data: Bytes, start: int = 0) -> int:
        return zlib.crc32(data, start)

    def adler32(self, data: Bytes, start: int = 1) -> int:
        return zlib.adler32(data, start)

    def lzo_compress(self, source: Bytes) -> bytes:
        block: bytes = self.load_lzo().compress(bytes(source), LZO_LEVEL, False)
        return block

    def lzo_decompress(self, source: Bytes, raw_bytes: int) -> bytes:
        lzo = self.load_lzo()
        try:
            raw: bytes = lzo.decompress(bytes(source), False, raw_bytes)
        except lzo.error as error:
            raise CorruptData(f"the LZO block is damaged: {error}") from None
        if len(raw) != raw_bytes:
            raise CorruptData(f"the LZO block holds {len(raw)} bytes, not {raw_bytes}")
        return raw

    def load_lzo(self) -> Any:
        """The LZO module. Raises CodecMissing."""
        if self._lzo is None:
            try:
                self._lzo = importlib.import_module("lzo")
            except ImportError as error:
                raise CodecMissing(LZO_MISSING) from error
        return self._lzo
