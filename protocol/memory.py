"""The ceiling of a process's memory: an endless message has no other bound in libzmq."""

from __future__ import annotations

import resource

from protocol.link import MEBIBYTE


def limit_memory(memory_mb: int) -> None:
    """Cap this process's data segment, never above a cap it has."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = memory_mb * MEBIBYTE
    if hard != resource.RLIM_INFINITY:
        ceiling = min(ceiling, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
