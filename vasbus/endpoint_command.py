"""`vasbus endpoint`: where scripts reach the processes of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cluster import ClusterError
from protocol.console_messages import LparStatus, SystemStatus, UnitStatus
from protocol.message import LOCAL_NETWORK
from vasbus.output import out, print_json
from vasbus.target import DEFAULT_DIR, AsJson, Dir, Hmc, console

HMC = "hmc"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(endpoint)


def endpoint(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="hmc, a partition or an NX unit.")] = None,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    network: Annotated[str, typer.Option("--network", help="The network that the caller is on.")] = LOCAL_NETWORK,
    as_json: AsJson = False,
) -> None:
    """Where a script reaches the management console's link, a partition or an NX unit; without a name, all that run."""
    with console(folder, hmc) as connection:
        found = {HMC: connection.endpoint, **_endpoints(connection.system(), network)}
    if name is not None:
        if name not in found:
            raise ClusterError(f"{name!r} has no endpoint on network {network!r}; these have: {', '.join(found)}")
        found = {name: found[name]}
    if as_json:
        print_json(found)
    elif name is not None:
        out.print(found[name], highlight=False, markup=False, soft_wrap=True)
    else:
        for known, where in found.items():
            out.print(f"{known:12} {where}", highlight=False, markup=False, soft_wrap=True)


def _endpoints(system: SystemStatus, network: str) -> dict[str, str]:
    """Those of the processes that are connected, and are on this network."""
    peers: list[LparStatus | UnitStatus] = [*system.lpars, *system.units]
    return {peer.name: peer.endpoints[network] for peer in peers if network in peer.endpoints}
