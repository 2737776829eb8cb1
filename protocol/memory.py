"""The ceilings of a process: its memory, and connections so that what each may announce fits into that."""

from __future__ import annotations

import resource

from protocol.link import MEBIBYTE

RESERVE_MB = 256
"""What a process needs beside what it is sent: code, stacks, tables."""
DESCRIPTORS_LEAST = 128
DESCRIPTORS_MOST = 65_536


def limit_memory(memory_mb: int) -> None:
    """Cap this process's data segment, never above a cap it has: an endless message has no other bound in libzmq."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = memory_mb * MEBIBYTE
    if hard != resource.RLIM_INFINITY:
        ceiling = min(ceiling, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))


def connections_in(memory_mb: int, frame_bytes: int | None) -> int:
    """How many descriptors a process is to have: each connection may announce a frame, before anybody knows its key.

    libzmq makes room for what is announced at once. `frame_bytes` is None where only this user can connect.
    """
    if frame_bytes is None:
        return DESCRIPTORS_MOST
    fitting = (memory_mb - RESERVE_MB) * MEBIBYTE // frame_bytes
    return min(max(fitting, DESCRIPTORS_LEAST), DESCRIPTORS_MOST)


def limit_descriptors(memory_mb: int, frame_bytes: int | None) -> None:
    """Let this process have `connections_in` descriptors, or as many as it may."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_in(memory_mb, frame_bytes)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
