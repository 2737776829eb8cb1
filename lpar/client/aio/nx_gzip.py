"""gzip on the accelerator, with software to fall back on, for asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from lpar.client.accelerator import AcceleratorSettings, OnSuspend
from lpar.client.aio.process import Lpar
from lpar.client.gzip_work import FALLBACKS, MAX_OUTPUT_BYTES, SMALL_BYTES, Format, GzipWork
from lpar.client.handles import microseconds, thread_id
from lpar.client.metrics import metrics_of
from lpar.client.page_faults import Paging
from lpar.client.selection import Mode
from lpar.client.software import Software
from lpar.client.statistics import Statistics
from protocol.message import PasteAddress
from protocol.metrics import Family


class NxGzip:
    """Compresses and decompresses on a window of `lpar`, opened when it is first needed.

    Many tasks may share one: requests take turns on the window, software runs in the loop's default executor, and
    the output of each call is its own. For more at a time than one request, make more of them: each has its window
    and costs a credit, unless on_suspend="reopen" makes them share one. The parameters are those of the class of the
    same name in lpar/client/nx_gzip.py. Input must not change while a call is under way.

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

    async def compress(self, data: bytes | bytearray | memoryview, format: Format = "gzip") -> bytes:
        """All of `data`, compressed.

        With `fallback="lzo"` the output is tagged members in place of gzip, and other formats are a ValueError.
        Raises NxError in modes "nx" and "mix".
        """
        return await self.lpar.driver.run(self._work.compress(memoryview(data).cast("B"), format, thread_id()))

    async def decompress(
        self, data: bytes | bytearray | memoryview, format: Format | None = None, max_bytes: int = MAX_OUTPUT_BYTES
    ) -> bytes:
        """The content of gzip (anybody's, also many members), zlib, tagged members, or raw deflate if named so.

        Checked against checksums and lengths. Raises CorruptData, TruncatedData, OutputLimit (more than `max_bytes`
        would come out), NxError in mode "nx", CodecMissing.
        """
        view = memoryview(data).cast("B")
        return await self.lpar.driver.run(self._work.decompress(view, format, max_bytes, thread_id()))

    def statistics(self) -> Statistics:
        """What has become of the bytes so far. Not to be awaited; any thread may ask."""
        return self.lpar.driver.inspect(self._work.ledger.picture)

    def metrics(self) -> list[Family]:
        """The same as families of metrics (protocol/metrics.py), and how long requests and opens took."""
        return metrics_of(self.statistics())

    async def open(self) -> None:
        """Open the window now instead of at its first use.

        Raises KernelFailure; with on_suspend="reopen" also BlockingIOError (EAGAIN) where no credit would stay spare.
        """
        await self.lpar.driver.run(self._work.accelerator.open(thread_id()))

    @property
    def address(self) -> PasteAddress | None:
        """Where the window's pastes go at present; None before it is opened and while it is known to be unmapped."""
        return self.lpar.driver.inspect(lambda: self._work.accelerator.address)

    async def close(self) -> None:
        """Give the window back; a later call would open another one.

        With on_suspend="reopen" the process keeps it for reuse while credits are plenty, as libnxz does.
        """
        await self.lpar.driver.run(self._work.accelerator.close(), finish=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
