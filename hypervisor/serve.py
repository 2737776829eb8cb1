"""The hypervisor's process."""

from __future__ import annotations

import os
from pathlib import Path

from hypervisor.core import HypervisorCore
from hypervisor.rows import Row
from hypervisor.store import LedgerStore
from protocol.codes import ExitCode
from protocol.effects import Exit
from protocol.metrics_server import MetricsPlace
from protocol.node import StoreError
from protocol.run import run_node
from protocol.system import Addresses, SystemSettings
from protocol.wire import WireError


def serve(system: SystemSettings, addresses: Addresses, ledger_path: Path, metrics: MetricsPlace | None = None) -> Exit:
    """Run until stopped; says how it ended. `metrics` is where to serve them; None: nowhere."""
    try:
        store = LedgerStore(ledger_path)
    except StoreError as error:
        return Exit(ExitCode.STORE, str(error))
    telemetry = {addresses.network: addresses.telemetry}
    listen = {"hcall": addresses.hcall, "fabric": addresses.fabric, "hmc": addresses.hmc}
    try:
        rows = store.load()
        check_rows(system, rows, ledger_path)
        core = HypervisorCore(system, rows, os.urandom, os.getpid(), telemetry)
        publish = addresses.telemetry
        return run_node(core, listen, system.limits.memory_mb, metrics, store=store, publish=publish)
    except StoreError as error:
        return Exit(ExitCode.STORE, str(error))
    finally:
        store.close()


def check_rows(system: SystemSettings, rows: list[Row], ledger_path: Path) -> None:
    """Have a core that nobody talks to start with the rows. Raises StoreError where they make no sense."""
    try:
        HypervisorCore(system, rows, os.urandom).start(0)
    except (ValueError, KeyError, WireError) as error:
        raise StoreError(f"{ledger_path}: the ledger has a row that makes no sense: {error}") from error
