"""gzip on the accelerator, with software to fall back on."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self

from lpar.client.accelerator import Accelerator, AcceleratorSettings, OnSuspend
from lpar.client.compressor import Compressor
from lpar.client.decompressor import Decompressor
from lpar.client.handles import microseconds, thread_id
from lpar.client.process import Lpar
from lpar.client.selection import Mode, selections
from lpar.client.software import Software
from lpar.client.statistics import Ledger, Statistics
from protocol.message import PasteAddress

Format = Literal["gzip", "zlib", "raw"]
MAX_OUTPUT_BYTES = 1 << 30
SMALL_BYTES = 1024
"""libnxz's COMPRESS_THRESHOLD and DECOMPRESS_THRESHOLD."""


class NxGzip:
    """Compresses and decompresses on one window of `lpar`, opened when it is first needed; threads may share it.

    `mode`: "auto" falls back to software, "nx" raises NxError instead, "mix" compresses as "nx" and decompresses in
    software, "software" never uses the accelerator. `on_suspend`: "software" keeps a window that lost its credit
    and tries it again with each part; "reopen" is libnxz's way: close it, and wait up to `reopen_timeout` seconds for
    another one. `fallback` is the codec that software compresses with; "lzo" writes tagged members that only this
    class reads. `timeout` bounds one request and `patience` its refusals, in seconds; calls with at most
    `small_bytes` of input stay in software in mode "auto"; `level` is zlib's. `qos` opens the window on a QoS credit.

    Raises ValueError for unknown words, CodecMissing where LZO is asked for and not installed.
    """

    def __init__(
        self,
        lpar: Lpar,
        mode: str = "auto",
        on_suspend: str = "software",
        fallback: str = "zlib",
        *,
        qos: bool = False,
        vas_id: int = -1,
        timeout: float = 10.0,
        patience: float = 1.0,
        reopen_timeout: float = 300.0,
        small_bytes: int = SMALL_BYTES,
        level: int = 6,
    ) -> None:
        if fallback not in ("zlib", "lzo"):
            raise ValueError(f"fallback is 'zlib' or 'lzo', not {fallback!r}")
        self.lpar = lpar
        self.mode = Mode(mode)
        self.fallback = fallback
        codec = Software(level)
        if fallback == "lzo":
            codec.load_lzo()
        settings = AcceleratorSettings(
            OnSuspend(on_suspend), qos, vas_id, microseconds(timeout), microseconds(patience),
            microseconds(reopen_timeout),
        )  # fmt: skip
        compressing, decompressing = selections(self.mode, small_bytes)
        self._ledger = Ledger()
        self._accelerator = Accelerator(settings, self._ledger)
        self._compressor = Compressor(self._accelerator, codec, self._ledger, compressing)
        self._decompressor = Decompressor(self._accelerator, codec, self._ledger, decompressing)

    def compress(self, data: bytes | bytearray | memoryview, format: Format = "gzip") -> bytes:
        """All of `data`, compressed.

        With `fallback="lzo"` the output is tagged members in place of gzip, and other formats are a ValueError.
        Raises NxError in modes "nx" and "mix".
        """
        if format not in ("gzip", "zlib", "raw"):
            raise ValueError(f"format is 'gzip', 'zlib' or 'raw', not {format!r}")
        compress = getattr(self._compressor, format)
        if self.fallback == "lzo":
            if format != "gzip":
                raise ValueError("fallback='lzo' writes tagged members, which have no other format")
            compress = self._compressor.mixed
        output: bytes = self.lpar.driver.run(compress(memoryview(data).cast("B"), thread_id()))
        return output

    def decompress(
        self, data: bytes | bytearray | memoryview, format: Format | None = None, max_bytes: int = MAX_OUTPUT_BYTES
    ) -> bytes:
        """The content of gzip (anybody's, also many members), zlib, tagged members, or raw deflate if named so.

        Checked against checksums and lengths. Raises CorruptData, TruncatedData, OutputLimit (more than `max_bytes`
        would come out), NxError in mode "nx", CodecMissing.
        """
        if format not in (None, "gzip", "zlib", "raw"):
            raise ValueError(f"format is 'gzip', 'zlib', 'raw' or None, not {format!r}")
        decompress = getattr(self._decompressor, format or "detected")
        view = memoryview(data).cast("B")
        output: bytes = self.lpar.driver.run(decompress(view, max_bytes, thread_id()))
        return output

    def statistics(self) -> Statistics:
        """What has become of the bytes so far."""
        return self.lpar.driver.inspect(self._ledger.picture)

    def open(self) -> None:
        """Open the window now instead of at its first use. Raises KernelFailure."""
        self.lpar.driver.run(self._accelerator.open(thread_id()))

    @property
    def address(self) -> PasteAddress | None:
        """Where the window's pastes go at present; None before it is opened and while it is known to be unmapped."""
        return self.lpar.driver.inspect(lambda: self._accelerator.address)

    def close(self) -> None:
        """Give the window back; a later call would open another one."""
        self.lpar.driver.run(self._accelerator.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
