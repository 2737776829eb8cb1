"""gzip on the accelerator, with software to fall back on."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from lpar.client.accelerator import AcceleratorSettings, OnSuspend
from lpar.client.gzip_work import FALLBACKS, MAX_OUTPUT_BYTES, SMALL_BYTES, Format, GzipWork
from lpar.client.handles import microseconds, thread_id
from lpar.client.member_reader import MemberReader
from lpar.client.metrics import metrics_of
from lpar.client.page_faults import Paging
from lpar.client.process import Lpar
from lpar.client.selection import Mode
from lpar.client.software import Software
from lpar.client.software_stream import SoftwareStream
from lpar.client.statistics import Statistics
from protocol.message import PasteAddress
from protocol.metrics import Family


class NxGzip:
    """Compresses and decompresses on a window of `lpar`, opened when it is first needed; threads may share it.

    `mode`: "auto" falls back to software, "nx" raises NxError instead, "mix" compresses as "nx" and decompresses in
    software, "software" never uses the accelerator. `on_suspend`: "software" keeps a window that lost its credit
    and tries it again with each part; "reopen" is libnxz's way: one window for the whole process, one credit of the
    partition left spare, and a window that lost its credit is closed, and another waited for, up to `reopen_timeout`
    seconds. `fallback` is the codec that software compresses with; "lzo" writes tagged members that only this class
    reads. `timeout` bounds one request (10 s; with "reopen" 60) and `patience` its refusals (1 s; with "reopen"
    `reopen_timeout`); calls with at most `small_bytes` of input stay in software in mode "auto"; `level` is zlib's.
    `qos` opens the window on a QoS credit.

    `fault_timeout` is how many seconds one request may go on meeting absent pages. `paging` pretends them, for tests:
    it is given each request as it is pasted, with every page touched, and returns it with absent ones.

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
        timeout: float | None = None,
        patience: float | None = None,
        reopen_timeout: float = 300.0,
        fault_timeout: float = 300.0,
        small_bytes: int = SMALL_BYTES,
        level: int = 6,
        paging: Paging | None = None,
    ) -> None:
        if fallback not in FALLBACKS:
            raise ValueError(f"fallback is 'zlib' or 'lzo', not {fallback!r}")
        self.lpar = lpar
        self.mode = Mode(mode)
        self.fallback = fallback
        codec = Software(level)
        if fallback == "lzo":
            codec.load_lzo()
        suspend = OnSuspend(on_suspend)
        settings = AcceleratorSettings(
            suspend, qos, vas_id,
            microseconds(suspend.timeout_s if timeout is None else timeout),
            microseconds(suspend.patience_s(reopen_timeout) if patience is None else patience),
            microseconds(reopen_timeout), microseconds(fault_timeout),
        )  # fmt: skip
        windows = lpar.driver.core.windows
        self._work = GzipWork(codec, self.mode, fallback, settings, small_bytes, paging, windows)

    def compress(self, data: bytes | bytearray | memoryview, format: Format = "gzip") -> bytes:
        """All of `data`, compressed.

        With `fallback="lzo"` the output is tagged members in place of gzip, and other formats are a ValueError.
        Raises NxError in modes "nx" and "mix".
        """
        return self.lpar.driver.run(self._work.compress(memoryview(data).cast("B"), format, thread_id()))

    def decompress(
        self, data: bytes | bytearray | memoryview, format: Format | None = None, max_bytes: int = MAX_OUTPUT_BYTES
    ) -> bytes:
        """The content of gzip (anybody's, also many members), zlib, tagged members, or raw deflate if named so.

        Checked against checksums and lengths. Raises CorruptData, TruncatedData, OutputLimit (more than `max_bytes`
        would come out), NxError in mode "nx", CodecMissing.
        """
        view = memoryview(data).cast("B")
        return self.lpar.driver.run(self._work.decompress(view, format, max_bytes, thread_id()))

    def member_reader(self) -> MemberReader:
        """Decompression of one gzip file piece by piece: what `lpar.client.streams` works with."""
        return MemberReader(self._work.decompressor.inflater, SoftwareStream)

    def statistics(self) -> Statistics:
        """What has become of the bytes so far."""
        return self.lpar.driver.inspect(self._work.ledger.picture)

    def metrics(self) -> list[Family]:
        """The same as families of metrics (protocol/metrics.py), and how long requests and opens took."""
        return metrics_of(self.statistics())

    def open(self) -> None:
        """Open the window now instead of at its first use.

        Raises KernelFailure; with on_suspend="reopen" also BlockingIOError (EAGAIN) where no credit would stay spare.
        """
        self.lpar.driver.run(self._work.accelerator.open(thread_id()))

    @property
    def address(self) -> PasteAddress | None:
        """Where the window's pastes go at present; None before it is opened and while it is known to be unmapped."""
        return self.lpar.driver.inspect(lambda: self._work.accelerator.address)

    def close(self) -> None:
        """Give the window back; a later call would open another one.

        With on_suspend="reopen" the process keeps it for reuse while credits are plenty, as libnxz does.
        """
        self.lpar.driver.run(self._work.accelerator.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
