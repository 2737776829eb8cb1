"""The process of an NX unit: its core and its engine in the node loop, one job per turn."""

from __future__ import annotations

import os

from nxunit.acceptance import PASTE_LINK
from nxunit.core import INCARNATION_BYTES, UnitCore
from nxunit.engine import Engine
from protocol.codes import ExitCode
from protocol.dialer import Identity
from protocol.effects import Exit
from protocol.metrics_server import MetricsPlace
from protocol.node import monotonic_us
from protocol.run import run_node
from protocol.system import Addresses, SystemSettings


def serve(system: SystemSettings, addresses: Addresses, unit: str, metrics: MetricsPlace | None = None) -> Exit:
    """Run one unit until it is stopped. Every way to end comes back as an exit code with its reason.

    `metrics` is where to serve them; None: nowhere.
    """
    chip = system.chip_of_unit(unit)
    endpoint = addresses.paste.get(unit)
    if chip is None or endpoint is None:
        units = ", ".join(chip.unit for chip in system.chip)
        return Exit(ExitCode.SETTINGS, f"the system {system.name!r} has no NX unit {unit!r}, only {units}")
    endpoints = {addresses.network: endpoint}
    identity = Identity("nxunit", unit, os.urandom(INCARNATION_BYTES), addresses.network, os.getpid(), endpoints)
    core = UnitCore(system, chip, identity, addresses.fabric, os.urandom)
    engine = Engine(system.request_limit_bytes, system.low_limit_bytes)

    def work() -> bool:
        job = core.take_job(monotonic_us())
        if job is not None:
            core.finish(job, engine.run(job), monotonic_us())
        return core.has_work

    return run_node(core, {PASTE_LINK: endpoint}, system.limits.memory_mb, metrics, work=work)
