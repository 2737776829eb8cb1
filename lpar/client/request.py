"""What a client pastes and what comes back: the request block and the status block, in a program's terms."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

from protocol.codes import CompletionCode, CompletionExtension
from protocol.link import BULK_LIMIT_BYTES
from protocol.paste_messages import (
    CSB_ADDRESS,
    HISTORY_MAX_BYTES,
    PAGE_BYTES,
    SOURCE_ADDRESS,
    TARGET_ADDRESS,
    Crb,
    CsbBody,
)

RESUME_MAX_BYTES = 16
PAGES_LIMIT = 128
"""Pages of an operand that a page map can tell about."""
BLOCK_BYTES = 2048
"""libnxz's request blocks are so far apart; the CSB is 240 bytes into each (nxu.h, nx_gzip_crb_t)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One job for an NX unit.

    `function` is a FunctionCode, or any byte. `target_bytes` is the room for the output. `history` (at most 32 KiB)
    precedes the source when compressing in parts. `crc32` and `adler32` are the checksums so far; `final` ends the
    deflate stream; `resume` is the token of a suspended decompression.

    `absent_source` (history and source, counted from the history's first byte) and `absent_target` are the pages, of
    64 KiB and numbered from 0, that are not in memory; `csb_present` is whether the status block's page is. A unit
    that needs an absent page stops there: the CSB has code 250 and the page's address, which `touched` takes.
    `csb_address` is where the status block is (0: nowhere, which ends the process with SIGSEGV when the kernel has to
    write there); by default every attempt has one of its own, and one given here is for one request at a time.
    Raises ValueError for what no message can carry.
    """

    function: int
    source: bytes
    target_bytes: int
    history: bytes = b""
    crc32: int = 0
    adler32: int = 1
    final: bool = True
    resume: bytes = b""
    absent_source: frozenset[int] = frozenset()
    absent_target: frozenset[int] = frozenset()
    csb_present: bool = True
    csb_address: int | None = None

    def __post_init__(self) -> None:
        if len(self.history) > HISTORY_MAX_BYTES:
            raise ValueError(f"at most {HISTORY_MAX_BYTES} bytes of history, not {len(self.history)}")
        if len(self.source) + len(self.history) > BULK_LIMIT_BYTES:
            raise ValueError(f"at most {BULK_LIMIT_BYTES} bytes of history and source in one request")
        if not 0 <= self.function <= 0xFF:
            raise ValueError("function is a byte")
        for name in ("target_bytes", "crc32", "adler32"):
            if not 0 <= getattr(self, name) <= 0xFFFF_FFFF:
                raise ValueError(f"{name} is a number of 32 bits")
        if len(self.resume) > RESUME_MAX_BYTES:
            raise ValueError(f"a resume token has at most {RESUME_MAX_BYTES} bytes")
        for name in ("absent_source", "absent_target"):
            pages: frozenset[int] = getattr(self, name)
            if pages and not (min(pages) >= 0 and max(pages) < PAGES_LIMIT):
                raise ValueError(f"{name} holds numbers of pages, 0 to {PAGES_LIMIT - 1}, not {sorted(pages)}")
        if self.csb_address is not None and not 0 <= self.csb_address <= 0xFFFF_FFFF_FFFF_FFFF:
            raise ValueError("csb_address is a number of 64 bits")

    def crb(self, attempt: int = 0) -> Crb:
        """The request block as it is sent; each attempt's status block has an address of its own by default."""
        return Crb(
            function=self.function,
            target_bytes=self.target_bytes,
            history_bytes=len(self.history),
            crc32=self.crc32,
            adler32=self.adler32,
            final=self.final,
            resume=self.resume,
            csb_address=CSB_ADDRESS + BLOCK_BYTES * attempt if self.csb_address is None else self.csb_address,
            source_pages=page_map(self.absent_source),
            target_pages=page_map(self.absent_target),
            csb_present=self.csb_present,
        )

    @property
    def source_page_count(self) -> int:
        """Pages that history and source take."""
        return -(-(len(self.history) + len(self.source)) // PAGE_BYTES)

    @property
    def target_page_count(self) -> int:
        """Pages that the target takes."""
        return -(-self.target_bytes // PAGE_BYTES)

    def touched(self, address: int) -> Request:
        """The same request with the page of a fault's address in memory. Raises ValueError for an address elsewhere."""
        if address == self.csb_address or (self.csb_address is None and address >= CSB_ADDRESS):
            return replace(self, csb_present=True)
        source_page, target_page = (address - SOURCE_ADDRESS) // PAGE_BYTES, (address - TARGET_ADDRESS) // PAGE_BYTES
        if 0 <= source_page < self.source_page_count:
            return replace(self, absent_source=self.absent_source - {source_page})
        if 0 <= target_page < self.target_page_count:
            return replace(self, absent_target=self.absent_target - {target_page})
        raise ValueError(f"{address:#x} is in no operand of this request")


def page_map(absent: Set[int]) -> bytes:
    """The bitmap of present pages, up to the last absent one; those beyond it are present."""
    if not absent:
        return b""
    present = (1 << 8 * (max(absent) // 8 + 1)) - 1
    for page in absent:
        present &= ~(1 << page)
    return present.to_bytes(max(absent) // 8 + 1, "little")


@dataclass(frozen=True, slots=True)
class Csb:
    """The coprocessor status block with the CPB's outputs and the target.

    `processed_bytes` (SPBC) counts source and history. `resume` is the token for the rest of a suspended
    decompression. `ended` says that the last block of a deflate stream was reached. `fault_address` belongs to code
    250, which the kernel wrote: the address that was not in memory.
    """

    code: CompletionCode
    extension: CompletionExtension
    processed_bytes: int
    target: bytes
    crc32: int
    adler32: int
    resume: bytes = b""
    ended: bool = False
    fault_address: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether the job was suspended or ended before all of the source was processed."""
        return bool(self.extension & CompletionExtension.PARTIAL)

    @property
    def is_terminated(self) -> bool:
        """Whether the outputs are unreliable."""
        return bool(self.extension & CompletionExtension.TERMINATED)

    @property
    def is_page_fault(self) -> bool:
        """Whether the unit stopped at an absent page: `Request.touched(fault_address)`, then paste again."""
        return self.code is CompletionCode.TRANSLATION_FAULT


def csb_of(body: CsbBody, target: bytes) -> Csb:
    """The status block that came in a message. `target` is cut to the count the unit gave."""
    return Csb(
        code=body.code,
        extension=CompletionExtension(body.extension),
        processed_bytes=body.processed_bytes,
        target=target if len(target) == body.target_bytes else target[: body.target_bytes],
        crc32=body.crc32,
        adler32=body.adler32,
        resume=body.resume,
        ended=body.ended,
        fault_address=body.fault_address,
    )
