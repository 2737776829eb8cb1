"""The work of an NxGzip, whatever runs its procedures: one window, a compressor, a decompressor, their counters."""

from __future__ import annotations

from typing import Literal

from lpar.client.accelerator import Accelerator, AcceleratorSettings, OnSuspend
from lpar.client.codec import SoftwareCodec
from lpar.client.compressor import Compressor
from lpar.client.decompressor import Decompressor
from lpar.client.page_faults import Paging, Submitter
from lpar.client.reopening import ReopeningAccelerator
from lpar.client.selection import Mode, selections
from lpar.client.shared_windows import SharedWindows
from lpar.client.statistics import Ledger
from lpar.client.steps import Procedure

Format = Literal["gzip", "zlib", "raw"]
FORMATS = ("gzip", "zlib", "raw")
FALLBACKS = ("zlib", "lzo")
MAX_OUTPUT_BYTES = 1 << 30
SMALL_BYTES = 1024
"""libnxz's COMPRESS_THRESHOLD and DECOMPRESS_THRESHOLD."""


class GzipWork:
    """What `compress` and `decompress` do, as procedures. `fallback` "lzo" writes tagged members in place of gzip.

    `windows` are those of its process that are shared where `settings.on_suspend` is REOPEN.
    """

    def __init__(
        self,
        codec: SoftwareCodec,
        mode: Mode,
        fallback: str,
        settings: AcceleratorSettings,
        small_bytes: int,
        paging: Paging | None,
        windows: SharedWindows,
    ) -> None:
        compressing, decompressing = selections(mode, small_bytes)
        self.fallback = fallback
        self.ledger = Ledger()
        self.accelerator = Accelerator(settings, self.ledger)
        if settings.on_suspend is OnSuspend.REOPEN:
            self.accelerator = ReopeningAccelerator(settings, self.ledger, windows)
        submitter = Submitter(self.accelerator, paging, settings.fault_timeout_us)
        self.compressor = Compressor(submitter, codec, self.ledger, compressing)
        self.decompressor = Decompressor(submitter, codec, self.ledger, decompressing)

    def compress(self, data: memoryview, format: str, thread_id: int) -> Procedure[bytes]:
        """All of `data`, compressed. Raises ValueError at once for a format that there is not."""
        if format not in FORMATS:
            raise ValueError(f"format is 'gzip', 'zlib' or 'raw', not {format!r}")
        if self.fallback == "lzo":
            if format != "gzip":
                raise ValueError("fallback='lzo' writes tagged members, which have no other format")
            return self.compressor.mixed(data, thread_id)
        if format == "zlib":
            return self.compressor.zlib(data, thread_id)
        return self.compressor.raw(data, thread_id) if format == "raw" else self.compressor.gzip(data, thread_id)

    def decompress(self, data: memoryview, format: str | None, max_bytes: int, thread_id: int) -> Procedure[bytes]:
        """The content of `data`. Raises ValueError at once for a format that there is not."""
        work = self.decompressor
        if format is None:
            return work.detected(data, max_bytes, thread_id)
        if format not in FORMATS:
            raise ValueError(f"format is 'gzip', 'zlib', 'raw' or None, not {format!r}")
        if format == "zlib":
            return work.zlib(data, max_bytes, thread_id)
        return work.raw(data, max_bytes, thread_id) if format == "raw" else work.gzip(data, max_bytes, thread_id)
