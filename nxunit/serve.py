"""The process of an NX unit: its core and its engine in the node loop, one job per turn."""

from __future__ import annotations

import os
from pathlib import Path

from nxunit.acceptance import PASTE_LINK
from nxunit.core import INCARNATION_BYTES, UnitCore
from nxunit.engine import Engine
from nxunit.guard import GuardHeld, lock_path, take_guard
from protocol.codes import ExitCode
from protocol.dialer import Identity
from protocol.effects import Exit
from protocol.endpoint import UNGUARDED, Security
from protocol.metrics_server import MetricsPlace
from protocol.node import monotonic_us
from protocol.run import run_node
from protocol.system import Addresses, ChipSettings, SystemSettings


def serve(
    system: SystemSettings,
    addresses: Addresses,
    unit: str,
    metrics: MetricsPlace | None = None,
    security: Security = UNGUARDED,
    folder: Path | None = None,
) -> Exit:
    """Run one unit until it is stopped. Every way to end comes back as an exit code with its reason.

    `metrics` is where to serve them; None: nowhere. `folder` is where its lock is, if it listens on tcp; None: nowhere,
    and the next process of this unit cannot prove that this one has ended.
    """
    chip = system.chip_of_unit(unit)
    endpoint = addresses.paste.get(unit)
    if chip is None or endpoint is None:
        units = ", ".join(chip.unit for chip in system.chip)
        return Exit(ExitCode.SETTINGS, f"the system {system.name!r} has no NX unit {unit!r}, only {units}")
    try:
        path = lock_path(endpoint, unit, folder)
        guard = take_guard(path) if path is not None else None
    except GuardHeld as held:
        return Exit(ExitCode.ADDRESS_IN_USE, str(held))
    except OSError as error:
        return Exit(ExitCode.FAILED, f"the lock of {unit} cannot be taken: {error}")
    try:
        return _serve(system, addresses, chip, metrics, security, b"" if guard is None else guard.name)
    finally:
        if guard is not None:
            guard.release()


def _serve(
    system: SystemSettings,
    addresses: Addresses,
    chip: ChipSettings,
    metrics: MetricsPlace | None,
    security: Security,
    guard: bytes,
) -> Exit:
    unit, endpoint = chip.unit, addresses.paste[chip.unit]
    endpoints = dict(addresses.advertised) or {addresses.network: endpoint}
    identity = Identity("nxunit", unit, os.urandom(INCARNATION_BYTES), addresses.network, os.getpid(), endpoints)
    core = UnitCore(system, chip, identity, addresses.fabric, os.urandom, guard)
    engine = Engine(system.request_limit_bytes, system.low_limit_bytes)

    def work() -> bool:
        job = core.take_job(monotonic_us())
        if job is not None:
            core.finish(job, engine.run(job), monotonic_us())
        return core.has_work

    return run_node(core, {PASTE_LINK: endpoint}, system.limits.memory_mb, metrics, work=work, security=security)
