"""gzip from file to file, of any size, in bounded memory: `compress_stream` and `decompress_stream`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from types import TracebackType
from typing import IO, Self

from lpar.client.errors import CorruptData
from lpar.client.framing import GZIP_TRAILER, GzipHeader
from lpar.client.handles import thread_id
from lpar.client.member_reader import HEADER_LIMIT_BYTES, Member, check_members
from lpar.client.nx_gzip import NxGzip
from lpar.client.software import Software
from lpar.client.source import Source

PART_BYTES = 1 << 20
"""Read, compressed and written at a time."""
HOLD_BYTES = 16 << 20
"""Output of a member that is not checked yet stays in memory up to this size, then in a temporary file."""
PEEK_BYTES = 4_096
OnProgress = Callable[[int], None]
"""Told how many bytes of the source have been read so far."""


def compress_stream(nx: NxGzip, source: IO[bytes], target: IO[bytes], on_progress: OnProgress | None = None) -> int:
    """Compress all of `source` into gzip members of at most 1 MiB of content each; the bytes written.

    Every member is checked against its content before it is written. Raises OSError, NxError in modes "nx" and "mix",
    CorruptData where an NX unit compressed something else than it was given, ValueError for an `nx` that falls back to
    LZO (its members are no gzip).
    """
    if nx.fallback == "lzo":
        raise ValueError("fallback='lzo' does not write gzip")
    codec = Software()
    written_bytes = 0
    with Source(source) as reader:
        while True:
            part = reader.take(len(reader.peek(PART_BYTES)))
            if part or not written_bytes:
                packed = nx.compress(part)
                check_members(memoryview(packed), memoryview(part), codec.crc32)
                target.write(packed)
                written_bytes += len(packed)
                if on_progress is not None:
                    on_progress(reader.offset)
            if len(part) < PART_BYTES:
                return written_bytes


def decompress_stream(
    nx: NxGzip,
    source: IO[bytes],
    target: IO[bytes],
    on_progress: OnProgress | None = None,
    *,
    hold_back: bool = True,
) -> int:
    """Decompress the gzip members of `source`, anybody's; zero bytes may follow the last one. The bytes written.

    With `hold_back` nothing of a member is written to `target` before its checksum and length are found right, at the
    price of a temporary file for a large member. Without, `target` is worth nothing until this returns. Raises
    CorruptData, TruncatedData, NxError in mode "nx", OSError.
    """
    with Source(source) as reader, Sink(target, hold_back=hold_back) as sink:
        return Decompression(nx, reader, sink, on_progress).run()


class Sink:
    """Where output goes: held back until it is `released`, or straight to `target`."""

    def __init__(self, target: IO[bytes], *, hold_back: bool) -> None:
        self.target = target
        self.written_bytes = 0
        self._held: IO[bytes] | None = None
        if hold_back:
            self._held = tempfile.SpooledTemporaryFile(HOLD_BYTES)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            self._held.close()

    def write(self, output: bytes) -> None:
        """Take output. Raises OSError."""
        self.written_bytes += len(output)
        (self.target if self._held is None else self._held).write(output)

    def release(self) -> None:
        """What has been written is right: let it through. Raises OSError."""
        if self._held is not None:
            self._held.seek(0)
            shutil.copyfileobj(self._held, self.target)
            self._held.seek(0)
            self._held.truncate()


class Decompression:
    """One file on its way."""

    def __init__(self, nx: NxGzip, reader: Source, sink: Sink, on_progress: OnProgress | None) -> None:
        self.driver = nx.lpar.driver
        self.members = nx.member_reader()
        self.reader = reader
        self.sink = sink
        self.on_progress = on_progress
        self._furthest = 0

    def run(self) -> int:
        """All members to the end of the file."""
        while True:
            member = self._member()
            following = self.reader.peek(1)
            if following == b"\0":
                length = self._skip_zeros()
                self.driver.inspect(lambda: self.members.padding(member, length))  # noqa: B023
            if not self.reader.peek(1):
                break
        self.driver.inspect(self.members.finished)
        return self.sink.written_bytes

    def _member(self) -> Member:
        header = self._header()
        member = self.members.begin(header, len(self.reader.peek(PEEK_BYTES)))
        self.reader.take(header.payload)
        self.reader.mark()
        while not member.ended:
            source = self.reader.peek(member.wanted_bytes)
            at_end = self.reader.is_all(len(source)) or len(source) < member.wanted_bytes
            step = self.members.piece(member, memoryview(source), thread_id(), at_end=at_end)
            piece = self.driver.run(step)
            if piece.again:
                self.reader.rewind()
            self.reader.take(piece.consumed_bytes)
            self.sink.write(piece.output)
            self._progress()
        self.reader.forget()
        trailer = self.reader.take(len(self.reader.peek(GZIP_TRAILER.size)))
        self.driver.inspect(lambda: self.members.end(member, trailer))
        self.sink.release()
        self._progress()
        return member

    def _header(self) -> GzipHeader:
        wanted_bytes = PEEK_BYTES
        while True:
            data = memoryview(self.reader.peek(wanted_bytes))
            at_end = len(data) < wanted_bytes
            header = self.members.header(data, self.reader.offset, at_end=at_end)
            if header is not None:
                return header
            wanted_bytes = min(4 * wanted_bytes, HEADER_LIMIT_BYTES)

    def _skip_zeros(self) -> int:
        """Padding to the end of the file, as tapes have it. Raises CorruptData for anything after it."""
        start = self.reader.offset
        while data := self.reader.peek(PEEK_BYTES):
            if any(data):
                raise CorruptData(f"something follows the zero bytes that begin at byte {start}")
            self.reader.take(len(data))
        return self.reader.offset - start

    def _progress(self) -> None:
        """Never backwards, though the reading may have to go back."""
        self._furthest = max(self._furthest, self.reader.offset)
        if self.on_progress is not None:
            self.on_progress(self._furthest)
