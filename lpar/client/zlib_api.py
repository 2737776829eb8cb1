"""libnxz's two interfaces in its own shape: streams, zlib's return codes, errno. Procedures only.

The `nx_` functions always use the accelerator and give its errors to the caller. Those with zlib's names follow the
selector: in mode AUTO, where no window is to be had because credits are short, they go on in software silently. A
stream that has begun on the accelerator never changes to software.

A stream is given whole here: one `deflate` or `inflate` with Z_FINISH between init and end. Data in many calls is the
business of `NxGzip` and of lpar/client/streams.py.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lpar.client.accelerator import AcceleratorSettings, OnSuspend, Unavailable
from lpar.client.codec import SoftwareCodec
from lpar.client.errors import DataError, NxError, OutputLimit, TruncatedData
from lpar.client.gzip_work import MAX_OUTPUT_BYTES, SMALL_BYTES, GzipWork
from lpar.client.reopening import ReopeningAccelerator
from lpar.client.selection import Mode
from lpar.client.shared_windows import SharedWindows
from lpar.client.steps import Procedure
from protocol.clock import SECOND_US
from protocol.codes import FallbackReason
from protocol.explained import ExplainedCode

TYPE_SELECTOR = "NX_GZIP_TYPE_SELECTOR"
DIRECTION_SELECTORS = ("NX_GZIP_COMP_MODE", "NX_GZIP_DEC_MODE")
CSB_WAIT_US = 60 * SECOND_US
PASTE_WAIT_US = 300 * SECOND_US
FAULT_WAIT_US = 300 * SECOND_US
SETTINGS = AcceleratorSettings(OnSuspend.REOPEN, False, -1, CSB_WAIT_US, PASTE_WAIT_US, PASTE_WAIT_US, FAULT_WAIT_US)
"""libnxz's limits: it never asks for a QoS credit, nor for a certain chip."""


class Status(ExplainedCode):
    """zlib's return codes, as far as they occur."""

    Z_OK = 0, "done"
    Z_STREAM_END = 1, "the stream is complete"
    Z_STREAM_ERROR = -2, "the stream cannot be used; error_number says why where it is an errno"
    Z_DATA_ERROR = -3, "the data is damaged, or the accelerator did not do it"
    Z_BUF_ERROR = -5, "the source ends early, or the room for the output is too small"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which mode each direction is in: AUTO, SOFTWARE or NX."""

    compress: Mode = Mode.AUTO
    decompress: Mode = Mode.AUTO


SELECTORS = {
    Mode.AUTO: Selector(Mode.AUTO, Mode.AUTO),
    Mode.SOFTWARE: Selector(Mode.SOFTWARE, Mode.SOFTWARE),
    Mode.NX: Selector(Mode.NX, Mode.NX),
    Mode.MIX: Selector(Mode.NX, Mode.SOFTWARE),
}
_BY_NUMBER = {"0": Mode.AUTO, "1": Mode.SOFTWARE, "2": Mode.NX, "3": Mode.MIX}


def selector_of(environment: Mapping[str, str]) -> Selector:
    """What libnxz's environment variables select; the type selector wins over one for a direction.

    Raises ValueError for a value that is not one of libnxz's numbers.
    """
    if TYPE_SELECTOR in environment:
        return SELECTORS[_numbered(TYPE_SELECTOR, environment[TYPE_SELECTOR], "0123")]
    compress, decompress = (_numbered(name, environment.get(name, "0"), "012") for name in DIRECTION_SELECTORS)
    return Selector(compress, decompress)


def _numbered(name: str, value: str, known: str) -> Mode:
    if len(value) != 1 or value not in known:
        words = ", ".join(f"{number} ({_BY_NUMBER[number].value})" for number in known)
        raise ValueError(f"{name}: expected {words}, came {value[:40]!r}")
    return _BY_NUMBER[value]


@dataclass(slots=True)
class Stream:
    """A z_stream. `next_in` is the whole source, `avail_out` the room for the output, which comes in `next_out`.

    `error_number` is what errno would be; `software` says that software does the work.
    """

    next_in: bytes = b""
    avail_out: int = MAX_OUTPUT_BYTES
    next_out: bytes = b""
    error_number: int = 0
    software: bool = False
    mode: Mode | None = None
    work: GzipWork | None = None


class ZlibApi:
    """The library in one process. `prefixed`: the `nx_` functions, to which the selector means nothing."""

    def __init__(
        self,
        windows: SharedWindows,
        codec: SoftwareCodec,
        selector: Selector,
        *,
        prefixed: bool,
        settings: AcceleratorSettings = SETTINGS,
    ) -> None:
        self.windows = windows
        self.codec = codec
        self.selector = Selector(Mode.NX, Mode.NX) if prefixed else selector
        self.settings = settings

    def deflate_init(self, stream: Stream, thread_id: int) -> Procedure[Status]:
        """deflateInit: Z_OK, or Z_STREAM_ERROR without a window. A stream that has begun is ended first."""
        return self._init(stream, self.selector.compress, thread_id)

    def inflate_init(self, stream: Stream, thread_id: int) -> Procedure[Status]:
        """inflateInit: Z_OK, or Z_STREAM_ERROR without a window. A stream that has begun is ended first."""
        return self._init(stream, self.selector.decompress, thread_id)

    def reset(self, stream: Stream, thread_id: int) -> Procedure[Status]:
        """deflateReset, inflateReset: the stream may be used again; one in software tries the accelerator again."""
        if stream.mode is None:
            return Status.Z_STREAM_ERROR
        if stream.mode is Mode.AUTO and stream.work is None:
            return (yield from self._begin(stream, stream.mode, thread_id))
        stream.software = stream.mode is Mode.SOFTWARE
        return Status.Z_OK

    def deflate(self, stream: Stream, thread_id: int) -> Procedure[Status]:
        """deflate with Z_FINISH into zlib's format: Z_STREAM_END, Z_STREAM_ERROR, Z_BUF_ERROR."""
        work = self._worker(stream, compresses=True)
        if work is None:
            return Status.Z_STREAM_ERROR
        try:
            output = yield from work.compress(memoryview(stream.next_in), "zlib", thread_id)
        except NxError as failure:
            stream.error_number = _errno_of_job(failure)
            return Status.Z_STREAM_ERROR
        if len(output) > stream.avail_out:
            return Status.Z_BUF_ERROR
        stream.next_out = output
        return Status.Z_STREAM_END

    def inflate(self, stream: Stream, thread_id: int) -> Procedure[Status]:
        """inflate with Z_FINISH from zlib's format: Z_STREAM_END, Z_STREAM_ERROR, Z_DATA_ERROR, Z_BUF_ERROR."""
        work = self._worker(stream, compresses=False)
        if work is None:
            return Status.Z_STREAM_ERROR
        source = memoryview(stream.next_in)
        try:
            stream.next_out = yield from work.decompress(source, "zlib", stream.avail_out, thread_id)
        except (OutputLimit, TruncatedData):
            return Status.Z_BUF_ERROR
        except DataError:
            return Status.Z_DATA_ERROR
        except NxError as failure:
            stream.error_number = _errno_of_job(failure)
            return Status.Z_DATA_ERROR
        return Status.Z_STREAM_END

    def end(self, stream: Stream) -> Procedure[Status]:
        """deflateEnd, inflateEnd: Z_OK, or Z_STREAM_ERROR for a stream that was never begun.

        Beside a call on the same stream: the job that is under way is finished, and the call opens no other window.
        """
        if stream.mode is None:
            return Status.Z_STREAM_ERROR
        stream.mode, work, stream.work = None, stream.work, None
        if work is not None:
            yield from self._accelerator(work).end()
        return Status.Z_OK

    def compress(self, stream: Stream, thread_id: int) -> Procedure[Status]:
        """compress: begin, deflate, end; Z_OK where all of that was right."""
        status = yield from self.deflate_init(stream, thread_id)
        if status is Status.Z_OK:
            status = yield from self._and_end(stream, self.deflate(stream, thread_id))
        return status

    def uncompress(self, stream: Stream, thread_id: int) -> Procedure[Status]:
        """uncompress: begin, inflate, end; Z_OK where all of that was right."""
        status = yield from self.inflate_init(stream, thread_id)
        if status is Status.Z_OK:
            status = yield from self._and_end(stream, self.inflate(stream, thread_id))
        return status

    def _and_end(self, stream: Stream, work: Procedure[Status]) -> Procedure[Status]:
        """The one call of a stream, and the stream's end, however the call ends."""
        try:
            status = yield from work
        except BaseException:
            # Cancelled, or the session is over: no step can be taken any more.
            if stream.work is not None:
                self._accelerator(stream.work).leave()
            raise
        yield from self.end(stream)
        return Status.Z_OK if status is Status.Z_STREAM_END else status

    def _init(self, stream: Stream, mode: Mode, thread_id: int) -> Procedure[Status]:
        yield from self.end(stream)
        return (yield from self._begin(stream, mode, thread_id))

    def _begin(self, stream: Stream, mode: Mode, thread_id: int) -> Procedure[Status]:
        stream.error_number, stream.software, stream.work = 0, mode is Mode.SOFTWARE, None
        if mode is not Mode.SOFTWARE:
            work = self._work(Mode.NX)
            try:
                yield from self._accelerator(work).hold(thread_id)
            except Unavailable as refusal:
                stream.error_number = _errno_of_open(refusal)
                stream.software = mode is Mode.AUTO and stream.error_number == errno.EAGAIN
                if not stream.software:
                    stream.mode = None
                    return Status.Z_STREAM_ERROR
            else:
                stream.work = work
        stream.mode = mode
        return Status.Z_OK

    def _worker(self, stream: Stream, *, compresses: bool) -> GzipWork | None:
        """Who does a stream's data; None for a stream that was not begun. AUTO decides anew before the first job."""
        if stream.mode is None:
            return None
        delay = self.windows.delay(compresses=compresses)
        if stream.mode is Mode.AUTO and (len(stream.next_in) <= SMALL_BYTES or delay.is_too_long):
            stream.software = True
        if stream.work is not None and not stream.software:
            return stream.work
        delay.used_software()
        return self._work(Mode.SOFTWARE)

    def _work(self, mode: Mode) -> GzipWork:
        settings = self.settings if mode is Mode.NX else replace(self.settings, on_suspend=OnSuspend.SOFTWARE)
        return GzipWork(self.codec, mode, "zlib", settings, SMALL_BYTES, None, self.windows)

    @staticmethod
    def _accelerator(work: GzipWork) -> ReopeningAccelerator:
        assert isinstance(work.accelerator, ReopeningAccelerator)
        return work.accelerator


def _errno_of_open(failure: BaseException) -> int:
    """The errno behind a failed open; EAGAIN where nobody gave one (nobody answered)."""
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause.errno
        cause = cause.__cause__
    return errno.EAGAIN


def _errno_of_job(failure: NxError) -> int:
    """A job that was not done for want of a window or an answer is EAGAIN; what a CSB says has no errno."""
    return 0 if failure.reason in (FallbackReason.DATA, FallbackReason.PAGE_FAULT) else errno.EAGAIN
