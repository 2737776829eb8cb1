"""`vasbus serve`: one process of a system in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster import ClusterError, metrics_file
from protocol.codes import ExitCode
from protocol.effects import Exit
from protocol.keys import KeyRole, Principal
from protocol.logs import configure_logs
from protocol.metrics_server import AddressError, MetricsPlace, parse_metrics_address
from protocol.system import Addresses, SettingsError, SystemSettings, local_addresses, parse_system
from vasbus.output import errors
from vasbus.serve_places import placed, security_of

RUNTIME_MODE = 0o700
"""The folder's mode is all that guards the sockets in it."""
app = typer.Typer(help="Run one process of a system in the foreground.", no_args_is_help=True)
"""Each command imports its own role alone: how soon a hypervisor is back depends on it."""

SystemPath = Annotated[Path, typer.Option("--system", "-f", help="The system file.")]
Runtime = Annotated[Path, typer.Option("--runtime", help="Folder of the sockets; its path must be short.")]
LedgerPath = Annotated[Path, typer.Option("--ledger", help="The ledger's SQLite file.")]
Name = Annotated[str, typer.Argument(help="A name from the system file.")]
Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Where to serve /metrics; port 0 is a free one, which is logged and written to NAME.metrics; or off.",
        envvar="VASBUS_METRICS",
    ),
]
DEFAULT_METRICS = "127.0.0.1:0"
"""Loopback, a free port."""
Listen = Annotated[
    list[str] | None,
    typer.Option("--listen", metavar="LINK=ENDPOINT", help="Where a link listens instead of in the runtime folder."),
]
Dial = Annotated[
    list[str] | None,
    typer.Option("--dial", metavar="LINK=ENDPOINT", help="Where the hypervisor listens, if not in the runtime folder."),
]
Advertise = Annotated[
    list[str] | None,
    typer.Option("--advertise", metavar="NETWORK=ENDPOINT", help="Where others on a network reach this process."),
]
KeyPath = Annotated[
    Path | None,
    typer.Option("--keys", help="Key folder, or the file exported for this process: tcp then takes keys only."),
]
"""Not from the environment, where a user's own key may be: `vasbus up` hands that on to what it starts."""
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Listen for other machines without keys: all there may do everything.")
]


@app.command("hypervisor")
def serve_hypervisor(
    system: SystemPath,
    runtime: Runtime,
    ledger: LedgerPath,
    metrics: Metrics = DEFAULT_METRICS,
    listen: Listen = None,
    advertise: Advertise = None,
    keys: KeyPath = None,
    insecure: Insecure = False,
) -> None:
    """The hypervisor: credits, windows, the ledger."""
    import hypervisor.serve

    place = _metrics_place(metrics, "hypervisor", runtime)
    settings, addresses = _prepare("hypervisor", "hypervisor", system, runtime)
    addresses = placed(addresses, "hypervisor", "", listen, None, advertise)
    security = security_of(keys, Principal(KeyRole.HYPERVISOR), addresses, insecure=insecure)
    _end(hypervisor.serve.serve(settings, addresses, ledger, place, security))


@app.command("lpar")
def serve_lpar(
    name: Name,
    system: SystemPath,
    runtime: Runtime,
    metrics: Metrics = DEFAULT_METRICS,
    listen: Listen = None,
    dial: Dial = None,
    advertise: Advertise = None,
    keys: KeyPath = None,
    insecure: Insecure = False,
) -> None:
    """One partition's kernel."""
    import lpar.serve

    place = _metrics_place(metrics, name, runtime)
    settings, addresses = _prepare("lpar", name, system, runtime)
    _known(name, addresses.device, "partition")
    addresses = placed(addresses, "lpar", name, listen, dial, advertise)
    security = security_of(keys, Principal(KeyRole.LPAR, name), addresses, insecure=insecure)
    _end(lpar.serve.serve(settings, addresses, name, place, security))


@app.command("nxunit")
def serve_nxunit(
    name: Name,
    system: SystemPath,
    runtime: Runtime,
    metrics: Metrics = DEFAULT_METRICS,
    listen: Listen = None,
    dial: Dial = None,
    advertise: Advertise = None,
    keys: KeyPath = None,
    insecure: Insecure = False,
) -> None:
    """One chip's NX unit."""
    import nxunit.serve

    place = _metrics_place(metrics, name, runtime)
    settings, addresses = _prepare("nxunit", name, system, runtime)
    _known(name, addresses.paste, "NX unit")
    addresses = placed(addresses, "nxunit", name, listen, dial, advertise)
    security = security_of(keys, Principal(KeyRole.NX, name), addresses, insecure=insecure)
    _end(nxunit.serve.serve(settings, addresses, name, place, security))


def alone() -> typer.Typer:
    """The `vasbus` command with `serve` for its only subcommand."""
    whole = typer.Typer(name="vasbus", pretty_exceptions_enable=False)
    whole.callback()(lambda: None)
    whole.add_typer(app, name="serve")
    return whole


def _prepare(role: str, name: str, system: Path, runtime: Path) -> tuple[SystemSettings, Addresses]:
    try:
        text = system.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the system file {system}: {error}") from None
    settings = parse_system(text, str(system))
    runtime.mkdir(mode=RUNTIME_MODE, parents=True, exist_ok=True)
    configure_logs(system=settings.name, role=role, name=name)
    return settings, local_addresses(settings, str(runtime))


def _metrics_place(text: str, name: str, runtime: Path) -> MetricsPlace | None:
    """Where to serve metrics; None where it says off. Raises typer.BadParameter for what is no address."""
    try:
        address = parse_metrics_address(text)
    except AddressError as error:
        raise typer.BadParameter(str(error), param_hint="--metrics") from None
    return None if address is None else MetricsPlace(*address, url_file=metrics_file(runtime, name))


def _known(name: str, names: dict[str, str], what: str) -> None:
    if name not in names:
        raise ClusterError(f"the system has no {what} {name!r}; it has {', '.join(sorted(names))}")


def _end(ending: Exit) -> None:
    if ending.code is not ExitCode.OK:
        errors.print(f"vasbus: {ending.reason}", style="red", highlight=False, markup=False)
    raise typer.Exit(int(ending.code))
