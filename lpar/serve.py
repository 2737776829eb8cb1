"""A partition as a process: the core in its shell."""

from __future__ import annotations

import errno
import os
import resource

import zmq

from lpar.core import DEVICE, INCARNATION_BYTES, LparCore
from protocol.codes import ExitCode
from protocol.dialer import Identity
from protocol.effects import Exit
from protocol.node import Node
from protocol.system import Addresses, SystemSettings

MEBIBYTE = 1 << 20


def serve(system: SystemSettings, addresses: Addresses, name: str) -> Exit:
    """Run partition `name` until it is stopped; says how it ended.

    Raises zmq.ZMQError where its endpoint cannot be bound for another reason than that somebody else has it.
    """
    settings = system.lpar_named(name)
    endpoint = addresses.device.get(name)
    if settings is None or endpoint is None:
        return Exit(ExitCode.SETTINGS, f"the system {system.name!r} has no partition {name!r}")
    limit_memory(system.limits.memory_mb)
    identity = Identity(
        role="lpar",
        name=name,
        incarnation=os.urandom(INCARNATION_BYTES),
        network=addresses.network,
        pid=os.getpid(),
        endpoints={addresses.network: endpoint},
    )
    core = LparCore(system, settings, identity, addresses.hcall, os.urandom)
    try:
        node = Node(core, listen={DEVICE: endpoint})
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            return Exit(ExitCode.ADDRESS_IN_USE, f"{endpoint}: {error.strerror}")
        raise
    return node.run()


def limit_memory(memory_mb: int) -> None:
    """Put a ceiling on this process's data, never above one that it has already."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = memory_mb * MEBIBYTE
    if hard != resource.RLIM_INFINITY:
        ceiling = min(ceiling, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
