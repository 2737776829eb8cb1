"""libnxz's shape for programs: zlib's calls and return codes on a partition's accelerator."""

from __future__ import annotations

from collections.abc import Mapping

from lpar.client.handles import thread_id
from lpar.client.process import Lpar
from lpar.client.selection import Mode
from lpar.client.software import Software
from lpar.client.zlib_api import SELECTORS, Status, Stream, ZlibApi, selector_of

__all__ = ["Libnxz", "Status", "Stream"]


class Libnxz:
    """zlib's names with the selector's modes, or with `prefixed` the `nx_` functions, which only use the accelerator.

    `selector` is "auto", "software", "nx" or "mix"; without one libnxz's environment variables in `environment`
    (such as os.environ) select: NX_GZIP_TYPE_SELECTOR, or NX_GZIP_COMP_MODE and NX_GZIP_DEC_MODE. All objects on one
    `lpar`, and `NxGzip` with on_suspend="reopen", share one window.

    Calls return what zlib's do and raise nothing for want of an accelerator. A thread uses a `Stream` of its own.
    Raises ValueError for an unknown selector.
    """

    def __init__(
        self,
        lpar: Lpar,
        selector: str | None = None,
        *,
        prefixed: bool = False,
        environment: Mapping[str, str] | None = None,
        level: int = 6,
    ) -> None:
        chosen = selector_of(environment or {}) if selector is None else SELECTORS[Mode(selector)]
        self.lpar = lpar
        self.api = ZlibApi(lpar.driver.core.windows, Software(level), chosen, prefixed=prefixed)

    def deflate_init(self, stream: Stream) -> Status:
        """deflateInit."""
        return self.lpar.driver.run(self.api.deflate_init(stream, thread_id()))

    def deflate(self, stream: Stream) -> Status:
        """deflate with Z_FINISH: all of `stream.next_in` into `stream.next_out`."""
        return self.lpar.driver.run(self.api.deflate(stream, thread_id()))

    def deflate_reset(self, stream: Stream) -> Status:
        """deflateReset."""
        return self.lpar.driver.run(self.api.reset(stream, thread_id()))

    def deflate_end(self, stream: Stream) -> Status:
        """deflateEnd."""
        return self.lpar.driver.run(self.api.end(stream))

    def inflate_init(self, stream: Stream) -> Status:
        """inflateInit."""
        return self.lpar.driver.run(self.api.inflate_init(stream, thread_id()))

    def inflate(self, stream: Stream) -> Status:
        """inflate with Z_FINISH: all of `stream.next_in` into `stream.next_out`."""
        return self.lpar.driver.run(self.api.inflate(stream, thread_id()))

    def inflate_reset(self, stream: Stream) -> Status:
        """inflateReset."""
        return self.lpar.driver.run(self.api.reset(stream, thread_id()))

    def inflate_end(self, stream: Stream) -> Status:
        """inflateEnd."""
        return self.lpar.driver.run(self.api.end(stream))

    def compress(self, data: bytes) -> tuple[Status, bytes]:
        """compress: Z_OK and a zlib stream, or why not."""
        stream = Stream(data)
        status = self.lpar.driver.run(self.api.compress(stream, thread_id()))
        return status, stream.next_out

    def uncompress(self, data: bytes) -> tuple[Status, bytes]:
        """uncompress: Z_OK and the content of a zlib stream, or why not."""
        stream = Stream(data)
        status = self.lpar.driver.run(self.api.uncompress(stream, thread_id()))
        return status, stream.next_out
