"""`vasbus endpoint`: where scripts reach the processes of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cluster import ClusterError
from protocol.console_messages import LparStatus, SystemStatus, UnitStatus
from protocol.message import LOCAL_NETWORK
from vasbus.output import out, print_json
from vasbus.target import DEFAULT_DIR, AsJson, Dir, Hmc, Network, console, elsewhere

HMC = "hmc"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(endpoint)


def endpoint(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="hmc, a partition or an NX unit.")] = None,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    network: Network = LOCAL_NETWORK,
    as_json: AsJson = False,
) -> None:
    """Where a script reaches the management console's link, a partition or an NX unit; without a name, all that run."""
    with console(folder, hmc) as connection:
        peers = _peers(connection.system())
    near = {peer: where[network] for peer, where in peers.items() if network in where}
    found = {HMC: connection.endpoint, **near}
    if name is not None:
        if name not in found:
            if peers.get(name):
                raise ClusterError(elsewhere(network, [name], peers[name]))
            raise ClusterError(f"{name!r} has no endpoint on network {network!r}; these have: {', '.join(found)}")
        found = {name: found[name]}
    if as_json:
        print_json(found)
    elif name is not None:
        out.print(found[name], highlight=False, markup=False, soft_wrap=True)
    else:
        for known, where in found.items():
            out.print(f"{known:12} {where}", highlight=False, markup=False, soft_wrap=True)


def _peers(system: SystemStatus) -> dict[str, dict[str, str]]:
    """The endpoints of each process by network; none where it is not connected."""
    peers: list[LparStatus | UnitStatus] = [*system.lpars, *system.units]
    return {peer.name: peer.endpoints for peer in peers}
