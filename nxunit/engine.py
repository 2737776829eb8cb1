"""The gzip engine: NX function codes carried out by ISA-L and zlib, answered with the NX's completion codes.

Where it differs from the hardware: a caller's own Huffman table is ignored and no counts are returned (the "count"
functions do what the plain ones do); an empty source is taken (hardware: CC 14); a decompression is resumed by a
token for state that the unit keeps, by single blocks only where it was begun so (else CC 8).
"""

from __future__ import annotations

from dataclasses import dataclass

from isal import isal_zlib

from nxunit.deflate import BlockType, IsalError, deflate
from nxunit.inflate import BadData, Inflated, InflateState, inflate, resume_inflate
from nxunit.job import FORCE_LOW_LIMIT, Completion, Job, Outcome, Suspended, TranslationFault, terminated
from nxunit.pages import Reach, find_csb_fault, find_data_fault
from nxunit.reach import compress_reach, compressed_bytes, inflate_reach, wrap_reach
from protocol.codes import CompletionCode, CompletionExtension, FunctionCode
from protocol.paste_messages import Crb, CsbBody

LOW_LIMIT_BYTES = 65_536
"""The low byte-count limit the user's manual proposes (table 6-7)."""
DECOMPRESS_RESUMES = (FunctionCode.DECOMPRESS_RESUME, FunctionCode.DECOMPRESS_RESUME_SINGLE_BLOCK)


@dataclass(frozen=True, slots=True)
class _Result:
    """What a function made of a valid request. `processed_bytes` includes the history, `suspended` means CC 3."""

    target: bytes
    processed_bytes: int
    plain: bytes | memoryview
    is_partial: bool
    ended: bool = False
    state: Suspended | None = None


class Engine:
    """Runs one request at a time; keeps nothing between requests.

    The byte-count limits apply to the source and its history when compressing and copying, to the target when
    decompressing (user's manual p. 56-57). 0 as low limit switches it off.
    """

    def __init__(self, request_limit_bytes: int = 1 << 20, low_limit_bytes: int = LOW_LIMIT_BYTES) -> None:
        self.request_limit_bytes = request_limit_bytes
        self.low_limit_bytes = low_limit_bytes

    def run(self, job: Job) -> Outcome:
        """Do one request, up to the first absent page that it touches: those of its data first, then the CSB's."""
        fault = self._data_fault(job)
        if fault is not None:
            return fault
        completion = self.complete(job)
        return find_csb_fault(job.crb) or completion

    def complete(self, job: Job) -> Completion:
        """Do one request as if every page were present.

        Bad input of any kind ends in a completion code, never in an exception.
        """
        crb = job.crb
        function = _function(crb)
        if function is None:
            return terminated(crb, CompletionCode.INVALID_FUNCTION)
        complaint = _complaint(job, function)
        if complaint is not None:
            return terminated(crb, complaint)
        limit_bytes = self._limit(job)
        try:
            if function.compresses:
                return _completed(crb, _compress(job, function, limit_bytes))
            if function is FunctionCode.WRAP:
                return _completed(crb, _wrap(job, limit_bytes))
            return _decompress(job, limit_bytes)
        except (MemoryError, IsalError):
            return terminated(crb, CompletionCode.HARDWARE)

    def _data_fault(self, job: Job) -> TranslationFault | None:
        """The absent page that stops the job; a request that cannot be done at all touches none."""
        crb = job.crb
        if not crb.source_pages and not crb.target_pages:
            return None
        function = _function(crb)
        if function is None or _complaint(job, function) is not None:
            return None
        limit_bytes = self._limit(job)
        decompresses = not function.compresses and function is not FunctionCode.WRAP
        room_bytes = min(crb.target_bytes, limit_bytes) if decompresses else crb.target_bytes

        def attempt(frame_bytes: int, room_bytes: int) -> Reach:
            if function.compresses:
                return compress_reach(job, _block_type(function), limit_bytes, frame_bytes, room_bytes)
            if function is FunctionCode.WRAP:
                return wrap_reach(job, limit_bytes, frame_bytes, room_bytes)
            return inflate_reach(job, frame_bytes, room_bytes)

        try:
            return find_data_fault(crb, len(job.frame), room_bytes, attempt)
        except (MemoryError, IsalError):
            return None

    def _limit(self, job: Job) -> int:
        low = job.low_limit or bool(job.crb.function & FORCE_LOW_LIMIT)
        if low and self.low_limit_bytes:
            return min(self.low_limit_bytes, self.request_limit_bytes)
        return self.request_limit_bytes


def _function(crb: Crb) -> FunctionCode | None:
    try:
        return FunctionCode(crb.function & ~FORCE_LOW_LIMIT)
    except ValueError:
        return None


def _complaint(job: Job, function: FunctionCode) -> CompletionCode | None:
    """Why a request cannot be done as it stands; None if it can."""
    crb = job.crb
    resumes_by_token = function in DECOMPRESS_RESUMES and bool(crb.resume)
    if crb.history_bytes > len(job.frame) or (crb.history_bytes and not function.resumes):
        return CompletionCode.INVALID_CRB
    if crb.resume and not resumes_by_token:
        return CompletionCode.INVALID_CRB
    if resumes_by_token and not _goes_on(job):
        return CompletionCode.INVALID_OPERAND
    if function.resumes and not resumes_by_token and crb.history_bytes >= len(job.frame):
        return CompletionCode.DATA_LENGTH
    return None


def _goes_on(job: Job) -> bool:
    """Whether the unit knows what the token stands for, and can go on from there as it is asked to."""
    return isinstance(job.state, InflateState) and (job.state.is_by_blocks or not job.by_block)


def _block_type(function: FunctionCode) -> BlockType:
    return BlockType.DYNAMIC if function.uses_dynamic_table else BlockType.FIXED


def _compress(job: Job, function: FunctionCode, limit_bytes: int) -> _Result:
    end_bytes = compressed_bytes(job, limit_bytes)
    part = job.source[: end_bytes - len(job.history)]
    is_partial = end_bytes < len(job.frame)
    target = deflate(part, job.history, _block_type(function), final=job.crb.final and not is_partial)
    return _Result(target, end_bytes, part, is_partial)


def _wrap(job: Job, limit_bytes: int) -> _Result:
    part = memoryview(job.frame)[:limit_bytes]
    return _Result(bytes(part), len(part), part, len(part) < len(job.frame))


def _decompress(job: Job, limit_bytes: int) -> Completion:
    crb = job.crb
    output_limit_bytes = min(crb.target_bytes, limit_bytes)
    try:
        if isinstance(job.state, InflateState):
            inflated = resume_inflate(job.state, job.source, output_limit_bytes, by_block=job.by_block)
        else:
            inflated = inflate(job.source, job.history, output_limit_bytes, by_block=job.by_block)
    except BadData as error:
        return terminated(crb, error.code)
    if inflated.full and crb.target_bytes < limit_bytes:
        return terminated(crb, CompletionCode.TARGET_SPACE)
    return _completed(crb, _decompressed(inflated, len(job.history), len(job.source)))


def _decompressed(inflated: Inflated, history_bytes: int, source_bytes: int) -> _Result:
    is_partial = not inflated.ended or inflated.consumed_bytes < source_bytes
    return _Result(
        inflated.target,
        history_bytes + inflated.consumed_bytes,
        inflated.target,
        is_partial,
        inflated.ended,
        inflated.state,
    )


def _completed(crb: Crb, result: _Result) -> Completion:
    """Counts, checksums and the completion code of a request that was carried out."""
    target_bytes = len(result.target)
    if target_bytes > crb.target_bytes:
        return terminated(crb, CompletionCode.TARGET_SPACE)
    extension = CompletionExtension.TPBC_VALID
    if result.is_partial:
        code = CompletionCode.DATA_LENGTH
        extension |= CompletionExtension.PARTIAL
    else:
        grown = _compresses(crb) and target_bytes > result.processed_bytes
        code = CompletionCode.TPBC_GREATER if grown else CompletionCode.OK
    csb = CsbBody(
        code=code,
        extension=int(extension),
        processed_bytes=result.processed_bytes,
        target_bytes=target_bytes,
        crc32=isal_zlib.crc32(result.plain, crb.crc32),
        adler32=isal_zlib.adler32(result.plain, crb.adler32),
        ended=result.ended,
    )
    return Completion(csb, result.target, result.state)


def _compresses(crb: Crb) -> bool:
    return FunctionCode(crb.function & ~FORCE_LOW_LIMIT).compresses
