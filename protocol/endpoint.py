"""What an endpoint says about who can reach it, and what that takes. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.key_source import KeySource

TCP = "tcp://"
IPC = "ipc://"
LOOPBACK_NAMES = frozenset(("localhost", "lo"))
"""The name that stands for it by RFC 6761, and Linux's interface, which ZeroMQ takes as well."""
WILDCARDS = frozenset(("*", "0.0.0.0", "::"))
PORT_LIMIT = 65_536
ENDPOINT_RULE = "expected ipc:///path/of/a/socket or tcp://host:port"


def is_tcp(endpoint: str) -> bool:
    """Whether other machines might reach it, and keys are needed."""
    return endpoint.startswith(TCP)


def is_abstract(endpoint: str) -> bool:
    """Whether it is one of Linux's sockets without a file, and so without a mode: every user can connect."""
    return endpoint.startswith(f"{IPC}@")


def host_of(endpoint: str) -> str:
    """The host of a tcp endpoint, without the brackets of an IPv6 address."""
    return endpoint.removeprefix(TCP).rpartition(":")[0].strip("[]")


def is_ipv6(endpoint: str) -> bool:
    """Whether a tcp endpoint's host is an IPv6 address: ZeroMQ takes those only when it is told."""
    return endpoint.startswith(f"{TCP}[")


def is_loopback(endpoint: str) -> bool:
    """Whether a tcp endpoint listens for this machine alone."""
    host = host_of(endpoint)
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(endpoint: str) -> bool:
    """Whether a tcp endpoint listens at every address, so that nobody could dial what it says."""
    return is_tcp(endpoint) and host_of(endpoint) in WILDCARDS


def endpoint_complaint(endpoint: str) -> str | None:
    """Why this is no endpoint of ours; None where it is one. tcp needs a port that others can be told."""
    kind, separator, place = endpoint.partition("://")
    if not separator or kind not in ("ipc", "tcp") or not place:
        return f"{endpoint!r} is no endpoint: {ENDPOINT_RULE}"
    if kind == "tcp":
        port = place.rpartition(":")[2]
        if not host_of(endpoint) or not (port.isdecimal() and 0 < int(port) < PORT_LIMIT):
            return f"{endpoint!r} is no endpoint: expected a port from 1 to {PORT_LIMIT - 1} after the host"
    return None


@dataclass(frozen=True, slots=True)
class Security:
    """What protects a process's tcp sockets: keys; without them they are for this machine alone, or `insecure`.

    Sockets of files (ipc) need no keys: the modes of the folder say who may reach them.
    """

    keys: KeySource | None = None
    insecure: bool = False

    def complaint(self, endpoints: Iterable[str]) -> str | None:
        """Why a process must not listen there, and what to do; None where it may."""
        if self.insecure:
            return None
        endpoints = list(endpoints)
        for endpoint in filter(is_abstract, endpoints):
            advice = "expected ipc:// and a path, or say --insecure if everybody here may do everything"
            return f"{endpoint}: every user of this machine could connect there: {advice}"
        if self.keys is not None:
            return None
        exposed = [endpoint for endpoint in endpoints if is_tcp(endpoint) and not is_loopback(endpoint)]
        if not exposed:
            return None
        return (
            f"{', '.join(exposed)}: other machines could connect there, and there are no keys: give them with --keys "
            "(`vasbus keys init DIR --system FILE` makes them), or listen at tcp://127.0.0.1:PORT, or say --insecure "
            "if everybody there may do everything"
        )


UNGUARDED = Security()
"""No keys, and nothing beyond this machine."""
