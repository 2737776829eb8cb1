"""Where a served process listens and dials, as its command line says, and what protects that."""

from __future__ import annotations

import socket
from pathlib import Path

import typer

from protocol.claims import SLOT
from protocol.endpoint import Security, endpoint_complaint, is_tcp, is_wildcard
from protocol.key_files import key_source
from protocol.keys import LINK_RULES, Principal
from protocol.message import NAME_RULE, is_name
from protocol.system import Addresses, SystemSettings, local_addresses

LISTENS = {
    "hypervisor": ("hcall", "fabric", "hmc", "telemetry"),
    "lpar": ("device",),
    SLOT: ("device",),
    "nxunit": ("paste",),
}
"""The links that each role listens on. The one that it tells others where to find is the last."""
DIALS: dict[str, tuple[str, ...]] = {"hypervisor": (), "lpar": ("hcall",), SLOT: ("hcall",), "nxunit": ("fabric",)}


HOSTNAME = "{hostname}"
"""In an endpoint: the machine's host name, which a container learns only when it is made."""
NOWHERE = "/dev/null"
"""In place of a folder, where every link that is used is placed by an option."""


def addresses_in(
    system: SystemSettings, folder: Path | None, role: str, listen: list[str] | None, dial: list[str] | None
) -> Addresses:
    """The addresses before the options. Raises typer.BadParameter where neither says where a link of this role is."""
    told = {word.partition("=")[0] for word in [*(listen or ()), *(dial or ())]}
    missing = [f"--listen {link}=ENDPOINT" for link in LISTENS[role] if link not in told]
    if role == SLOT and missing:
        # Several claim slots of one folder: none has a place of its own there.
        raise typer.BadParameter(f"expected {missing[0]}", param_hint="--listen")
    missing += [f"--dial {link}=ENDPOINT" for link in DIALS[role] if link not in told]
    if folder is None and missing:
        raise typer.BadParameter(f"expected a folder, or {', '.join(missing)}", param_hint="--runtime")
    return local_addresses(system, NOWHERE if folder is None else str(folder))


def placed(
    addresses: Addresses,
    role: str,
    name: str,
    listen: list[str] | None,
    dial: list[str] | None,
    advertise: list[str] | None,
) -> Addresses:
    """The addresses with what the options change. Raises typer.BadParameter for what makes no sense."""
    listening = _assignments("--listen", listen, LISTENS[role])
    changed: dict[str, object] = {**listening, **_assignments("--dial", dial, DIALS[role])}
    advertised = _assignments("--advertise", advertise, None)
    for link, table in (("device", addresses.device), ("paste", addresses.paste)):
        if link in changed:
            changed[link] = {**table, name: listening[link]}
    told = listening.get(LISTENS[role][-1], "")
    if is_wildcard(told) and not advertised:
        raise typer.BadParameter(
            f"{told} is where this process listens, and nobody can dial that: say with --advertise NETWORK=ENDPOINT "
            "where it is reached (the network is `local` unless clients name another)",
            param_hint="--listen",
        )
    return addresses.model_copy(update={**changed, "advertised": advertised})


def _assignments(option: str, words: list[str] | None, known: tuple[str, ...] | None) -> dict[str, str]:
    """NAME=ENDPOINT words as a table; names are the `known` ones, or of any network. HOSTNAME is filled in."""
    found: dict[str, str] = {}
    for word in words or ():
        name, separator, endpoint = word.partition("=")
        expected = NAME_RULE if known is None else f"one of {', '.join(known) or 'none'}"
        if not separator or name in found or not (is_name(name) if known is None else name in known):
            raise typer.BadParameter(f"expected {expected}, once, and =ENDPOINT; came {word!r}", param_hint=option)
        endpoint = endpoint.replace(HOSTNAME, socket.gethostname())
        complaint = endpoint_complaint(endpoint)
        if complaint is not None:
            raise typer.BadParameter(complaint, param_hint=option)
        found[name] = endpoint
    return found


def security_of(
    path: Path | None, owner: Principal, addresses: Addresses, *, insecure: bool, is_slot: bool = False
) -> Security:
    """The keys of a process, complete for what it dials; those of a slot are the enrolment key's, as the template.

    Raises KeysError; typer.BadParameter for keys and insecure.
    """
    if path is None:
        return Security(insecure=insecure)
    if insecure:
        raise typer.BadParameter("expected keys or --insecure, came both", param_hint="--insecure")
    keys = key_source(path, lambda file: file.slot_keyring(owner.name) if is_slot else file.keyring(owner))
    for link, endpoint in (("hcall", addresses.hcall), ("fabric", addresses.fabric)):
        if owner.role in LINK_RULES[link].dial and is_tcp(endpoint):
            keys.keyring.server_keys(link, "")
    return Security(keys)
