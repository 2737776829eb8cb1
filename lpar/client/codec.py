"""The port to the software codecs: what takes over when no NX unit does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Inflation:
    """A whole deflate stream, decompressed. `output` lacks the skipped bytes; the checksums include them."""

    output: bytes
    skipped_bytes: int
    consumed_bytes: int
    crc32: int
    adler32: int


class SoftwareCodec(Protocol):
    """Deflate and LZO without an accelerator. Every call may take long and depends on nothing but its arguments."""

    def deflate(self, source: Bytes, history: Bytes, *, final: bool) -> bytes:
        """Raw deflate; matches may reach into `history`. Not `final`: it ends byte-aligned, for a next part."""

    def inflate(self, source: Bytes, skip_bytes: int, room_bytes: int) -> Inflation:
        """Raw inflate up to the end of the stream, without the first `skip_bytes` of output.

        Raises CorruptData, TruncatedData, OutputLimit (more than `room_bytes` after the skipped ones).
        """

    def crc32(self, data: Bytes, start: int = 0) -> int:
        """CRC-32 of data that follows what `start` is the checksum of."""

    def adler32(self, data: Bytes, start: int = 1) -> int:
        """Adler-32 of data that follows what `start` is the checksum of."""

    def lzo_compress(self, source: Bytes) -> bytes:
        """One LZO1X block without a header. Raises CodecMissing."""

    def lzo_decompress(self, source: Bytes, raw_bytes: int) -> bytes:
        """Exactly `raw_bytes` from an LZO1X block. Raises CodecMissing, CorruptData."""
