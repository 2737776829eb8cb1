"""Raw inflate in software, piece by piece."""

from __future__ import annotations

import zlib

from lpar.client.codec import Bytes
from lpar.client.errors import CorruptData

RAW = -zlib.MAX_WBITS


class SoftwareStream:
    """One raw deflate stream from its beginning."""

    def __init__(self) -> None:
        self._machine = zlib.decompressobj(RAW)

    @property
    def ended(self) -> bool:
        """Whether the last block has been decompressed."""
        return self._machine.eof

    def decompress(self, source: Bytes, most_bytes: int) -> tuple[bytes, int]:
        """At most so much output, and how much of `source` it took; the rest is to be given again.

        Raises CorruptData.
        """
        try:
            output = self._machine.decompress(source, most_bytes)
        except zlib.error as error:
            raise CorruptData(f"the deflate stream is damaged: {error}") from None
        left_bytes = len(self._machine.unused_data) if self._machine.eof else len(self._machine.unconsumed_tail)
        return output, len(source) - left_bytes
