"""The ceilings of a process: its memory, and connections so that what each may announce fits into that."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from protocol.link import MEBIBYTE

RESERVE_MB = 256
"""What a process needs beside what it is sent: code, stacks, tables."""
DESCRIPTORS_LEAST = 128
DESCRIPTORS_MOST = 65_536
SPARE_DESCRIPTORS = 64
"""Kept for what must not wait until strangers let go of theirs. While they are to be had libzmq's thread takes some of
them for those who are waiting to connect, some dozens in a millisecond.
"""
T = TypeVar("T")


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
    fitting = (memory_mb - RESERVE_MB) * MEBIBYTE // frame_bytes - SPARE_DESCRIPTORS
    return min(max(fitting, DESCRIPTORS_LEAST), DESCRIPTORS_MOST)


def limit_descriptors(memory_mb: int, frame_bytes: int | None) -> None:
    """Let this process have `connections_in` descriptors, or as many as it may but for a few (`spare_descriptors`)."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_in(memory_mb, frame_bytes)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard - min(SPARE_DESCRIPTORS, hard // 4))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def spare_descriptors() -> Iterator[None]:
    """Let this process have SPARE_DESCRIPTORS more, as far as it may, until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = soft + SPARE_DESCRIPTORS if soft != resource.RLIM_INFINITY else soft
    if hard != resource.RLIM_INFINITY:
        more = min(more, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def with_descriptors(attempt: Callable[[], T]) -> T:
    """Do what takes a descriptor or a few, with the spare ones where all others are taken. Raises what it raises."""
    try:
        return attempt()
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    with spare_descriptors():
        return attempt()
