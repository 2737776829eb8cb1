"""The hypervisor's process."""

from __future__ import annotations

import os
from pathlib import Path

from hypervisor.core import HypervisorCore
from hypervisor.row_meaning import senseless
from hypervisor.rows import Row
from hypervisor.store import LedgerStore
from protocol.codes import ExitCode
from protocol.effects import Exit
from protocol.endpoint import UNGUARDED, Security
from protocol.metrics_server import MetricsPlace
from protocol.node import StoreError
from protocol.run import run_node
from protocol.system import Addresses, SystemSettings

ADVICE = "`vasbus fsck` lists all; start with an earlier copy of it, or with another ledger"


def serve(
    system: SystemSettings,
    addresses: Addresses,
    ledger_path: Path,
    metrics: MetricsPlace | None = None,
    security: Security = UNGUARDED,
) -> Exit:
    """Run until stopped; says how it ended. `metrics` is where to serve them; None: nowhere."""
    try:
        store = LedgerStore(ledger_path, judge=check_rows)
    except StoreError as error:
        return Exit(error.code, str(error))
    telemetry = dict(addresses.advertised) or {addresses.network: addresses.telemetry}
    listen = {"hcall": addresses.hcall, "fabric": addresses.fabric, "hmc": addresses.hmc}
    try:
        rows, store.found = store.found, []
        core = HypervisorCore(system, rows, os.urandom, os.getpid(), telemetry)
        return run_node(
            core, listen, system.limits.memory_mb, metrics, store=store, publish=addresses.telemetry, security=security
        )
    except StoreError as error:
        return Exit(error.code, str(error))
    finally:
        store.close()


def check_rows(rows: list[Row], ledger_path: Path) -> None:
    """Raises StoreError where a row makes no sense: the core takes all of them as they are."""
    found = senseless(rows)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        text = f"{ledger_path}: the ledger has a row that makes no sense: {found[0]}{more}: {ADVICE}"
        raise StoreError(text, ExitCode.STORE_DAMAGED)
