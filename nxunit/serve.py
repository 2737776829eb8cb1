"""The process of an NX unit: its core and its engine in the node loop, one job per turn."""

from __future__ import annotations

import os
import resource

import zmq

from nxunit.acceptance import PASTE_LINK
from nxunit.core import INCARNATION_BYTES, UnitCore
from nxunit.engine import Engine
from protocol.codes import ExitCode
from protocol.dialer import Identity
from protocol.effects import Exit
from protocol.node import Node, monotonic_us
from protocol.system import Addresses, SystemSettings

MEBIBYTE = 1 << 20


def serve(system: SystemSettings, addresses: Addresses, unit: str) -> Exit:
    """Run one unit until it is stopped. Every way to end comes back as an exit code with its reason."""
    chip = system.chip_of_unit(unit)
    endpoint = addresses.paste.get(unit)
    if chip is None or endpoint is None:
        units = ", ".join(chip.unit for chip in system.chip)
        return Exit(ExitCode.SETTINGS, f"the system {system.name!r} has no NX unit {unit!r}, only {units}")
    limit_memory(system.limits.memory_mb)
    endpoints = {addresses.network: endpoint}
    identity = Identity("nxunit", unit, os.urandom(INCARNATION_BYTES), addresses.network, os.getpid(), endpoints)
    core = UnitCore(system, chip, identity, addresses.fabric, os.urandom)
    engine = Engine(system.request_limit_bytes)

    def work() -> bool:
        job = core.take_job(monotonic_us())
        if job is not None:
            core.finish(job, engine.run(job), monotonic_us())
        return core.has_work

    try:
        node = Node(core, listen={PASTE_LINK: endpoint}, work=work)
    except zmq.ZMQError as error:
        return Exit(ExitCode.ADDRESS_IN_USE, f"cannot listen at {endpoint}: {error}")
    return node.run()


def limit_memory(memory_mb: int) -> None:
    """Cap the data segment: what libzmq gathers of an endless message has no other bound."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = memory_mb * MEBIBYTE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
