"""What goes into the gzip engine and what comes out: the port between the unit's core and its engine. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from protocol.codes import CompletionCode, CompletionExtension, FunctionCode, Operand
from protocol.paste_messages import Crb, CsbBody

FORCE_LOW_LIMIT = 0x01
"""The bit of a function code that asks for the low byte-count limit."""
SINGLE_BLOCK = frozenset((FunctionCode.DECOMPRESS_SINGLE_BLOCK, FunctionCode.DECOMPRESS_RESUME_SINGLE_BLOCK))
"""The functions that suspend after one block."""


class Suspended(Protocol):
    """The engine's state of a decompression that stopped midway.

    It never changes: a request resumed from it twice gives the same output twice.
    """

    @property
    def skip_bytes(self) -> int:
        """How many source bytes already inside this state its owner will send again."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request for the engine. `frame` is the history followed by the source.

    `state` is what `crb.resume` stands for; None beside a token says that the unit does not know it. `low_limit`
    holds the job to the low byte-count limit, as the lowest bit of the function code does.
    """

    crb: Crb
    frame: bytes
    state: Suspended | None = None
    low_limit: bool = False

    @property
    def history(self) -> memoryview:
        return memoryview(self.frame)[: self.crb.history_bytes]

    @property
    def source(self) -> memoryview:
        return memoryview(self.frame)[self.crb.history_bytes :]

    @property
    def by_block(self) -> bool:
        """Whether the request is over after one deflate block."""
        return self.crb.function & ~FORCE_LOW_LIMIT in SINGLE_BLOCK


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request: status block, target bytes, and the state to go on from where there is one."""

    csb: CsbBody
    target: bytes = b""
    suspended: Suspended | None = None


@dataclass(frozen=True, slots=True)
class TranslationFault:
    """A request that stopped at an absent page. Nothing of it was written that its sender would see.

    `address` is that of the page in the sender's memory; for the status block, the block's own.
    """

    operand: Operand
    address: int


Outcome = Completion | TranslationFault


class GzipEngine(Protocol):
    """The port: a function of the job alone. It raises nothing, whatever the job."""

    def run(self, job: Job) -> Outcome:
        """Do one request."""


def terminated(crb: Crb, code: CompletionCode) -> Completion:
    """The outcome of a request that was stopped: counts are zero, the checksums those it came with (CE 0x60)."""
    extension = CompletionExtension.TERMINATED | CompletionExtension.TPBC_VALID
    return Completion(
        CsbBody(
            code=code,
            extension=int(extension),
            processed_bytes=0,
            target_bytes=0,
            crc32=crb.crc32,
            adler32=crb.adler32,
        )
    )
