"""What a client pastes and what comes back: the request block and the status block, in a program's terms."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.codes import CompletionCode, CompletionExtension
from protocol.link import BULK_LIMIT_BYTES
from protocol.paste_messages import HISTORY_MAX_BYTES, Crb, CsbBody

RESUME_MAX_BYTES = 16


@dataclass(frozen=True, slots=True)
class Request:
    """One job for an NX unit.

    `function` is a FunctionCode, or any byte. `target_bytes` is the room for the output. `history` (at most 32 KiB)
    precedes the source when compressing in parts. `crc32` and `adler32` are the checksums so far; `final` ends the
    deflate stream; `resume` is the token of a suspended decompression. Raises ValueError for what no message can carry.
    """

    function: int
    source: bytes
    target_bytes: int
    history: bytes = b""
    crc32: int = 0
    adler32: int = 1
    final: bool = True
    resume: bytes = b""

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

    def crb(self) -> Crb:
        """The request block as it is sent."""
        return Crb(
            function=self.function,
            target_bytes=self.target_bytes,
            history_bytes=len(self.history),
            crc32=self.crc32,
            adler32=self.adler32,
            final=self.final,
            resume=self.resume,
        )


@dataclass(frozen=True, slots=True)
class Csb:
    """The coprocessor status block with the CPB's outputs and the target.

    `processed_bytes` (SPBC) counts source and history. `resume` is the token for the rest of a suspended
    decompression. `ended` says that the last block of a deflate stream was reached.
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
