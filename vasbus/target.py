"""Which cluster a command is for: the one at `--hmc`, else the local one in `--dir`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster import ClusterFolder
from hmc.connection import Console

Dir = Annotated[Path, typer.Option("--dir", help="Folder of the local cluster.", envvar="VASBUS_DIR")]
Hmc = Annotated[str, typer.Option("--hmc", help="hmc endpoint of another cluster.", envvar="VASBUS_HMC")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_DIR = Path(".vasbus")


def hmc_endpoint(folder: Path, hmc: str) -> str:
    """Where the hypervisor's console link is. Raises ClusterError where no cluster is known."""
    return hmc or ClusterFolder(folder).addresses().hmc


def console(folder: Path, hmc: str) -> Console:
    """A console at the chosen cluster."""
    return Console(hmc_endpoint(folder, hmc))
