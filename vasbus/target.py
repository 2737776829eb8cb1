"""Which cluster a command is for: the one at `--hmc`, else the local one in `--dir`."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster import ClusterFolder
from hmc.connection import Console, ConsoleUnreachable

Dir = Annotated[Path, typer.Option("--dir", help="Folder of the local cluster.", envvar="VASBUS_DIR")]
Hmc = Annotated[str, typer.Option("--hmc", help="hmc endpoint of another cluster.", envvar="VASBUS_HMC")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_DIR = Path(".vasbus")


def hmc_endpoint(folder: Path, hmc: str) -> str:
    """Where the hypervisor's console link is. Raises ClusterError where no cluster is known."""
    return hmc or ClusterFolder(folder).addresses().hmc


def console(folder: Path, hmc: str) -> Console:
    """A console at the chosen cluster. Raises ConsoleUnreachable at once where nobody can be there."""
    endpoint = hmc_endpoint(folder, hmc)
    _check_endpoint(endpoint)
    return Console(endpoint)


def _check_endpoint(endpoint: str) -> None:
    """Say at once what waiting would not mend. Raises ConsoleUnreachable."""
    kind, separator, place = endpoint.partition("://")
    if kind not in ("ipc", "tcp") or not separator:
        raise ConsoleUnreachable(f"{endpoint!r} is no endpoint: expected ipc:///path/of/a/socket or tcp://host:port")
    if kind != "ipc":
        port = place.rpartition(":")[2]
        if not (port.isdecimal() and 0 < int(port) < 65_536):
            raise ConsoleUnreachable(f"{endpoint!r} is no endpoint: expected a port from 1 to 65535 after the host")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(place)
        except FileNotFoundError:
            raise ConsoleUnreachable(f"{endpoint}: there is no such socket: is the hypervisor running there?") from None
        except ConnectionRefusedError:
            advice = "`vasbus up` starts what is missing"
            raise ConsoleUnreachable(f"{endpoint}: the hypervisor there is gone: {advice}") from None
