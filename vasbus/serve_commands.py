"""`vasbus serve`: one process of a system in the foreground."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster import ClusterError, metrics_file
from protocol.claims import SLOT
from protocol.codes import ExitCode
from protocol.effects import Exit
from protocol.endpoint import Security
from protocol.keys import KeyRole, Principal
from protocol.logs import configure_logs
from protocol.metrics_server import AddressError, MetricsPlace, parse_metrics_address
from protocol.socket_folder import folder_complaint
from protocol.system import Addresses, SettingsError, SystemSettings, parse_system
from vasbus.output import errors
from vasbus.serve_places import addresses_in, placed, security_of

RUNTIME_MODE = 0o700
"""The folder's mode is all that guards the sockets in it."""
UMASK = 0o077
app = typer.Typer(help="Run one process of a system in the foreground.", no_args_is_help=True)
"""Each command imports its own role alone: how soon a hypervisor is back depends on it."""

SystemPath = Annotated[Path, typer.Option("--system", "-f", help="The system file.")]
Runtime = Annotated[
    Path | None,
    typer.Option(
        "--runtime",
        help="Folder of the sockets, its path must be short; and of an NX unit's lock, by which the next process of "
        "the unit proves that this one has ended. Not needed where --listen and --dial place every link.",
    ),
]
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
    bool,
    typer.Option("--insecure", help="Listen for other machines without keys, or other users: all may do everything."),
]


@app.command("hypervisor")
def serve_hypervisor(
    system: SystemPath,
    ledger: LedgerPath,
    runtime: Runtime = None,
    metrics: Metrics = DEFAULT_METRICS,
    listen: Listen = None,
    advertise: Advertise = None,
    keys: KeyPath = None,
    insecure: Insecure = False,
) -> None:
    """The hypervisor: credits, windows, the ledger."""
    from hypervisor.serve import serve

    place = _metrics_place(metrics, "hypervisor", runtime)
    settings = _prepare("hypervisor", "hypervisor", system, runtime, insecure=insecure)
    addresses = addresses_in(settings, runtime, "hypervisor", listen, None)
    addresses = placed(addresses, "hypervisor", "", listen, None, advertise)
    security = security_of(keys, Principal(KeyRole.HYPERVISOR), addresses, insecure=insecure)
    _end(serve(settings, addresses, ledger, place, security))


def _serve_lpar(
    system: SystemSettings, addresses: Addresses, name: str, place: MetricsPlace | None, security: Security, _: object
) -> Exit:
    from lpar.serve import serve

    return serve(system, addresses, name, place, security)


def _serve_nxunit(
    system: SystemSettings,
    addresses: Addresses,
    name: str,
    place: MetricsPlace | None,
    security: Security,
    folder: Path | None,
) -> Exit:
    from nxunit.serve import serve

    return serve(system, addresses, name, place, security, folder)


@dataclass(frozen=True, slots=True)
class Dialling:
    """A role whose processes have names and dial the hypervisor."""

    role: str
    key_role: KeyRole
    what: str
    names: Callable[[Addresses], Collection[str]]
    serve: Callable[[SystemSettings, Addresses, str, MetricsPlace | None, Security, Path | None], Exit]


LPAR = Dialling("lpar", KeyRole.LPAR, "partition", lambda addresses: addresses.device, _serve_lpar)
NXUNIT = Dialling("nxunit", KeyRole.NX, "NX unit", lambda addresses: addresses.paste, _serve_nxunit)


def _add(who: Dialling, text: str) -> None:
    """Add the command of a role; `text` is its help."""

    def serve(
        name: Name,
        system: SystemPath,
        runtime: Runtime = None,
        metrics: Metrics = DEFAULT_METRICS,
        listen: Listen = None,
        dial: Dial = None,
        advertise: Advertise = None,
        keys: KeyPath = None,
        insecure: Insecure = False,
    ) -> None:
        place = _metrics_place(metrics, name, runtime)
        settings = _prepare(who.role, name, system, runtime, insecure=insecure)
        addresses = addresses_in(settings, runtime, who.role, listen, dial)
        _known(name, who.names(addresses), who.what)
        addresses = placed(addresses, who.role, name, listen, dial, advertise)
        security = security_of(keys, Principal(who.key_role, name), addresses, insecure=insecure)
        _end(who.serve(settings, addresses, name, place, security, runtime))

    app.command(who.role, help=text)(serve)


_add(LPAR, "One partition's kernel.")
_add(NXUNIT, "One chip's NX unit.")


@app.command("slot")
def serve_slot(
    system: SystemPath,
    runtime: Runtime = None,
    metrics: Metrics = DEFAULT_METRICS,
    listen: Listen = None,
    dial: Dial = None,
    advertise: Advertise = None,
    keys: KeyPath = None,
    insecure: Insecure = False,
) -> None:
    """The kernel of whichever slot is free: the hypervisor names it."""
    from lpar.serve import serve_slot as serve

    place = _metrics_place(metrics, SLOT, None)
    settings = _prepare(SLOT, SLOT, system, runtime, insecure=insecure)
    if settings.slots is None:
        raise SettingsError(f"{system}: expected the table [slots], which says what a slot has; there is none")
    template = settings.slots.name
    addresses = addresses_in(settings, runtime, SLOT, listen, dial)
    addresses = placed(addresses, SLOT, template, listen, dial, advertise)
    security = security_of(keys, Principal(KeyRole.LPAR, template), addresses, insecure=insecure, is_slot=True)
    _end(serve(settings, addresses, place, security))


def alone() -> typer.Typer:
    """The `vasbus` command with `serve` for its only subcommand."""
    whole = typer.Typer(name="vasbus", pretty_exceptions_enable=False)
    whole.callback()(lambda: None)
    whole.add_typer(app, name="serve")
    return whole


def _prepare(role: str, name: str, system: Path, runtime: Path | None, *, insecure: bool) -> SystemSettings:
    """Read the system and make the folder. What this process makes is for its user alone."""
    os.umask(UMASK)
    try:
        text = system.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the system file {system}: {error}") from None
    settings = parse_system(text, str(system))
    if runtime is not None:
        runtime.mkdir(mode=RUNTIME_MODE, parents=True, exist_ok=True)
        complaint = None if insecure else folder_complaint(runtime)
        if complaint is not None:
            _end(Exit(ExitCode.INSECURE, complaint))
    configure_logs(system=settings.name, role=role, name=name)
    return settings


def _metrics_place(text: str, name: str, runtime: Path | None) -> MetricsPlace | None:
    """Where to serve metrics; None where it says off. Raises typer.BadParameter for what is no address."""
    try:
        address = parse_metrics_address(text)
    except AddressError as error:
        raise typer.BadParameter(str(error), param_hint="--metrics") from None
    url_file = None if runtime is None else metrics_file(runtime, name)
    return None if address is None else MetricsPlace(*address, url_file=url_file)


def _known(name: str, names: Collection[str], what: str) -> None:
    if name not in names:
        raise ClusterError(f"the system has no {what} {name!r}; it has {', '.join(sorted(names))}")


def _end(ending: Exit) -> None:
    if ending.code is not ExitCode.OK:
        errors.print(f"vasbus: {ending.reason}", style="red", highlight=False, markup=False)
    raise typer.Exit(int(ending.code))
