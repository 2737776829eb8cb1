"""How far a request gets on the first part of its frame: what the search for an absent page asks of the engine."""

from __future__ import annotations

from nxunit.deflate import SYNC_FLUSH_BYTES, BlockType, deflate
from nxunit.inflate import BadData, InflateState, inflate, resume_inflate
from nxunit.job import Job
from nxunit.pages import Reach

LEAST_PROGRESS_BYTES = 4_096
"""Source that a request gets on with when its history alone reaches the limit."""


def compressed_bytes(job: Job, limit_bytes: int) -> int:
    """How much of the frame a compression reads: the history counts towards the limit."""
    budget_bytes = max(limit_bytes - len(job.history), LEAST_PROGRESS_BYTES)
    return len(job.history) + min(len(job.source), budget_bytes)


def compress_reach(job: Job, block_type: BlockType, limit_bytes: int, frame_bytes: int, room_bytes: int) -> Reach:
    """The output of a part counts without the flush that would end it, which only a finished request has."""
    end_bytes = compressed_bytes(job, limit_bytes)
    history = job.history
    part = memoryview(job.frame)[len(history) : min(frame_bytes, end_bytes)]
    if frame_bytes >= end_bytes:
        final = job.crb.final and end_bytes == len(job.frame)
        output_bytes = len(deflate(part, history, block_type, final=final))
        return Reach.ROOM if output_bytes > room_bytes else Reach.STOP
    if not part:
        return Reach.SOURCE
    output_bytes = len(deflate(part, history, block_type, final=False)) - SYNC_FLUSH_BYTES
    return Reach.ROOM if output_bytes > room_bytes else Reach.SOURCE


def wrap_reach(job: Job, limit_bytes: int, frame_bytes: int, room_bytes: int) -> Reach:
    """A copy writes each byte as it reads it."""
    end_bytes = min(len(job.frame), limit_bytes)
    if min(frame_bytes, end_bytes) > room_bytes:
        return Reach.ROOM
    return Reach.STOP if frame_bytes >= end_bytes else Reach.SOURCE


def inflate_reach(job: Job, frame_bytes: int, room_bytes: int) -> Reach:
    """Output that a resumed state has in it arises before any source is read, but after the history was."""
    if frame_bytes < len(job.history):
        return Reach.SOURCE
    source = memoryview(job.frame)[len(job.history) : frame_bytes]
    try:
        if isinstance(job.state, InflateState):
            inflated = resume_inflate(job.state, source, room_bytes, by_block=job.by_block)
        else:
            inflated = inflate(source, job.history, room_bytes, by_block=job.by_block)
    except BadData:
        return Reach.STOP
    if inflated.full:
        return Reach.ROOM
    return Reach.STOP if inflated.ended or (job.by_block and inflated.block_ended) else Reach.SOURCE
