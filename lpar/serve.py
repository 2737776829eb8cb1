"""A partition as a process: the core in its shell."""

from __future__ import annotations

import os

from lpar.core import DEVICE, INCARNATION_BYTES, LparCore
from protocol.claims import SLOT
from protocol.codes import ExitCode
from protocol.dialer import Identity
from protocol.effects import Exit
from protocol.endpoint import UNGUARDED, Security, is_tcp
from protocol.metrics_server import MetricsPlace
from protocol.run import run_node
from protocol.system import Addresses, LparSettings, SystemSettings


def serve(
    system: SystemSettings,
    addresses: Addresses,
    name: str,
    metrics: MetricsPlace | None = None,
    security: Security = UNGUARDED,
) -> Exit:
    """Run partition `name` until it is stopped; says how it ended. `metrics` is where to serve them; None: nowhere."""
    settings = system.lpar_named(name)
    if settings is None:
        return Exit(ExitCode.SETTINGS, f"the system {system.name!r} has no partition {name!r}")
    return _serve("lpar", system, settings, addresses, metrics, security)


def serve_slot(
    system: SystemSettings, addresses: Addresses, metrics: MetricsPlace | None = None, security: Security = UNGUARDED
) -> Exit:
    """Claim a free slot and run that partition until it is stopped; as `serve`. The template's name has the address."""
    if system.slots is None:
        return Exit(ExitCode.SETTINGS, f"the system {system.name!r} has no slots: its file has no table [slots]")
    return _serve(SLOT, system, system.slots, addresses, metrics, security)


def _serve(
    role: str,
    system: SystemSettings,
    settings: LparSettings,
    addresses: Addresses,
    metrics: MetricsPlace | None,
    security: Security,
) -> Exit:
    endpoint = addresses.device.get(settings.name)
    if endpoint is None:
        return Exit(ExitCode.SETTINGS, f"{settings.name} has no device endpoint: say --listen device=ENDPOINT")
    identity = Identity(
        role=role,
        name=settings.name,
        incarnation=os.urandom(INCARNATION_BYTES),
        network=addresses.network,
        pid=os.getpid(),
        endpoints=dict(addresses.advertised) or {addresses.network: endpoint},
    )
    by_key = security.keys is not None and is_tcp(endpoint)
    core = LparCore(system, settings, identity, addresses.hcall, os.urandom, clients_are_root=not by_key)
    return run_node(core, {DEVICE: endpoint}, system.limits.memory_mb, metrics, security=security)
