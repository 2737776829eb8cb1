"""A file read in pieces, with a way back to a marked place, in bounded memory."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import IO, Self

SPOOL_BYTES = 8 << 20
"""What is kept of a source that cannot seek stays in memory up to this size, then in a temporary file."""
READ_BYTES = 1 << 18


class Source:
    """Reads `file` from where it stands. `offset` is how much has been taken of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.offset = 0
        self._file = file
        self._seekable = file.seekable()
        self._start = file.tell() if self._seekable else 0
        self._buffer = bytearray()
        self._ended = False
        self._marked: int | None = None
        self._spool: IO[bytes] | None = None
        self._replay: IO[bytes] | None = None

    def peek(self, wanted_bytes: int) -> bytes:
        """The next bytes, as many as are wanted or there are. Raises OSError."""
        while len(self._buffer) < wanted_bytes and not self._ended:
            data = self._read(max(READ_BYTES, wanted_bytes - len(self._buffer)))
            self._buffer += data
            self._ended = not data
        return bytes(memoryview(self._buffer)[:wanted_bytes])

    def is_all(self, length: int) -> bool:
        """Whether nothing follows the next `length` bytes, which were peeked at."""
        return self._ended and length >= len(self._buffer)

    def take(self, length: int) -> bytes:
        """The next bytes, which were peeked at; they count as read."""
        taken = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        self.offset += len(taken)
        if self._spool is not None:
            self._spool.write(taken)
        return taken

    def mark(self) -> None:
        """`rewind` comes back to here."""
        self.forget()
        self._marked = self.offset
        if not self._seekable:
            self._spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 (closed by forget)

    def rewind(self) -> None:
        """Go back to the marked place; once."""
        assert self._marked is not None, "there is a mark"
        if self._spool is not None:
            self._spool.write(bytes(self._buffer))
            self._spool.seek(0)
            self._replay, self._spool = self._spool, None
        else:
            self._file.seek(self._start + self._marked)
        self._buffer.clear()
        self._ended = False
        self.offset, self._marked = self._marked, None

    def forget(self) -> None:
        """The marked place is not needed any more."""
        self._marked = None
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what is kept; the file itself stays open."""
        self.forget()
        if self._replay is not None:
            self._replay.close()
            self._replay = None

    def _read(self, length: int) -> bytes:
        if self._replay is not None:
            data = self._replay.read(length)
            if data:
                return data
            self._replay.close()
            self._replay = None
        read = self._file.read(length)
        if read is None:
            raise BlockingIOError("the source must be a blocking file")
        return read
