"""The hypervisor's process."""

from __future__ import annotations

import os
from pathlib import Path

from hypervisor.core import HypervisorCore
from hypervisor.store import LedgerStore
from protocol.codes import ExitCode
from protocol.effects import Exit
from protocol.node import Node, StoreError
from protocol.system import Addresses, SystemSettings


def serve(system: SystemSettings, addresses: Addresses, ledger_path: Path) -> Exit:
    """Run until stopped. Raises zmq.ZMQError where a socket cannot be bound."""
    try:
        store = LedgerStore(ledger_path)
        telemetry = {addresses.network: addresses.telemetry}
        core = HypervisorCore(system, store.load(), os.urandom, os.getpid(), telemetry)
    except StoreError as error:
        return Exit(ExitCode.STORE, str(error))
    listen = {"hcall": addresses.hcall, "fabric": addresses.fabric, "hmc": addresses.hmc}
    try:
        return Node(core, listen, store=store, publish=addresses.telemetry).run()
    finally:
        store.close()
