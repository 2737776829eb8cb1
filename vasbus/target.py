"""Which cluster a command is for: the one at `--hmc`, else the local one in `--dir`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster import ClusterError, ClusterFolder
from hmc.connection import Console, ConsoleUnreachable
from protocol.endpoint import endpoint_complaint
from protocol.key_files import KEYS_VARIABLE, key_source
from protocol.key_source import KeySource
from protocol.keys import KeyFile, Keyring, KeyRole, Principal
from protocol.network import NETWORK_VARIABLE, network_of

Dir = Annotated[Path, typer.Option("--dir", help="Folder of the local cluster.", envvar="VASBUS_DIR")]
Hmc = Annotated[str, typer.Option("--hmc", help="hmc endpoint of another cluster.", envvar="VASBUS_HMC")]
KeyPath = Annotated[
    Path | None,
    typer.Option("--keys", help="Key folder or exported key file, for clusters on tcp.", envvar=KEYS_VARIABLE),
]


def _network(name: str) -> str:
    try:
        return network_of(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Network = Annotated[
    str,
    typer.Option(
        "--network",
        metavar="NAME",
        help="The network that this program is on.",
        envvar=NETWORK_VARIABLE,
        callback=_network,
    ),
]
"""Every process says where it is reached on each named network; that of a local cluster is `local`."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_DIR = Path(".vasbus")


def use_keys(path: Path | None) -> None:
    """Have every connection of this process and of those it starts use these keys."""
    if path is not None:
        os.environ[KEYS_VARIABLE] = str(path)


def _keys(choose: Callable[[KeyFile], Keyring]) -> KeySource | None:
    path = os.environ.get(KEYS_VARIABLE)
    return key_source(Path(path), choose) if path else None


def console_keys() -> KeySource | None:
    """The keys for the hmc link and telemetry: those of hmc, else of observer, else of chaos. Raises KeysError."""

    def choose(keys: KeyFile) -> Keyring:
        roles = (KeyRole.HMC, KeyRole.OBSERVER, KeyRole.CHAOS)
        found = next((role for role in roles if Principal(role) in keys.own), KeyRole.HMC)
        return keys.keyring(Principal(found))

    return _keys(choose)


def client_keys(lpar: str) -> KeySource | None:
    """The keys for a process on a partition. Raises KeysError where the file has none for it.

    A partition that is a slot is its template's: `client:lpar` is for lpar-01 and all others.
    """
    template, _, number = lpar.rpartition("-")

    def choose(keys: KeyFile) -> Keyring:
        own, slots = Principal(KeyRole.CLIENT, lpar), Principal(KeyRole.CLIENT, template)
        return keys.keyring(slots if own not in keys.own and slots in keys.own and number.isdecimal() else own)

    return _keys(choose)


def hmc_endpoint(folder: Path, hmc: str) -> str:
    """Where the hypervisor's console link is. Raises ClusterError where no cluster is known."""
    return hmc or ClusterFolder(folder).addresses().hmc


def console(folder: Path, hmc: str, network: str | None = None) -> Console:
    """A console at the chosen cluster. Raises ConsoleUnreachable at once where nobody can be there."""
    endpoint = hmc_endpoint(folder, hmc)
    _check_endpoint(endpoint)
    return Console(endpoint, network, keys=console_keys())


def endpoint_on(network: str, name: str, endpoints: Mapping[str, str], state: str = "") -> str:
    """Where a process is reached from this network. Raises ClusterError, which says on which networks it is.

    `state` is what the hypervisor says of it, for one that is on none.
    """
    found = endpoints.get(network)
    if found is not None:
        return found
    if not endpoints:
        raise ClusterError(f"{name} is {state or 'not running'}: `vasbus up` starts what is missing")
    raise ClusterError(elsewhere(network, [name], endpoints))


def elsewhere(network: str, names: Sequence[str], networks: Iterable[str]) -> str:
    """That processes are not on this network, and on which they are."""
    advice = f"--network or {NETWORK_VARIABLE} names the one that this program is on"
    return f"{', '.join(names)}: no endpoint on network {network!r}, only on {', '.join(sorted(networks))}; {advice}"


def _check_endpoint(endpoint: str) -> None:
    """Say at once what waiting would not mend. Raises ConsoleUnreachable."""
    complaint = endpoint_complaint(endpoint)
    if complaint is not None:
        raise ConsoleUnreachable(complaint)
    kind, _, place = endpoint.partition("://")
    if kind != "ipc":
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(place)
        except FileNotFoundError:
            raise ConsoleUnreachable(f"{endpoint}: there is no such socket: is the hypervisor running there?") from None
        except ConnectionRefusedError:
            advice = "`vasbus up` starts what is missing"
            raise ConsoleUnreachable(f"{endpoint}: the hypervisor there is gone: {advice}") from None
