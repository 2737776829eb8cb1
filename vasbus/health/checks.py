"""What is asked of each role, and what a healthy process answers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from vasbus.health.caller import Caller
from vasbus.health.failure import NotReady, Unhealthy
from vasbus.health.keys import Credentials

CREDITS = "/sys/devices/virtual/misc/vas/vas0/gzip/default_capabilities/nr_total_credits"
"""A file that the kernel has once it has booted, if the hypervisor offers accelerators."""
TOKEN_BYTES = 16
NOBODYS_WINDOW = 0xFFFF_FFFF
COMPRESS_FHT = 0
CONSOLES = ("observer", "hmc", "chaos")
"""Whose key may ask; the one that may do least comes first."""


def check_hypervisor(caller: Caller, credentials: Credentials | None) -> str:
    """The console's link tells the state of the system."""
    caller.hello("hmc" if credentials is None else credentials.owner)
    kind, status = caller.ask("query_system", {}, number=1)
    if kind != "system_status":
        raise Unhealthy(f"{caller.endpoint}: expected system_status, came {kind}")
    recovering = ", recovering" if status.get("recovering") else ""
    return f"the hypervisor of {status.get('system')} answers{recovering}"


def check_lpar(caller: Caller, _credentials: Credentials | None) -> str:
    """A process on the partition reads a file. Before the kernel has booted it puts every system call off."""
    caller.hello("client")
    try:
        kind, answer = caller.ask("read_file", {"path": CREDITS}, number=1)
    except NotReady as failure:
        if failure.code != "retry":
            raise
        why = f"the kernel has not booted within {caller.wait_s:g} s: has it reached its hypervisor?"
        raise Unhealthy(f"{caller.endpoint}: {why}") from None
    if kind == "file_text":
        return f"the kernel is up with {str(answer.get('text')).strip()} default credits"
    if kind == "os_failure" and answer.get("errno") == errno.ENOENT:
        return "the kernel is up, the hypervisor offers it no accelerators"
    raise Unhealthy(f"{caller.endpoint}: expected file_text, came {kind} {answer.get('reason', '')}".rstrip())


def check_nxunit(caller: Caller, _credentials: Credentials | None) -> str:
    """A paste to a window that nobody has ends in a page fault."""
    crb = {"function": COMPRESS_FHT, "target_bytes": 0}
    body = {"window_id": NOBODYS_WINDOW, "token": os.urandom(TOKEN_BYTES), "number": 1, "crb": crb}
    kind, _answer = caller.ask("paste", body, frames=(b"",))
    if kind == "paste_refused":
        raise Unhealthy(f"{caller.endpoint}: the NX unit is stopping")
    if kind != "paste_faulted":
        raise Unhealthy(f"{caller.endpoint}: expected paste_faulted, came {kind}")
    return "the NX unit answers pastes"


@dataclass(frozen=True, slots=True)
class Role:
    """How one role is asked: with whose key, of which listener, and whether the link has sessions."""

    check: Callable[[Caller, Credentials | None], str]
    keys: tuple[str, ...]
    listeners: tuple[str, ...]
    has_session: bool = True


ROLES = {
    "hypervisor": Role(check_hypervisor, CONSOLES, ("hypervisor",)),
    # A replica serves its slot with the enrolment key.
    "lpar": Role(check_lpar, ("client",), ("lpar:{}", "enrol")),
    "nxunit": Role(check_nxunit, ("nx",), ("nx:{}",), has_session=False),
}


def health(role: str, endpoint: str, credentials: Credentials | None, wait_s: float) -> str:
    """One round trip; what a healthy process had to say. Raises Unhealthy."""
    asked = ROLES[role]
    with Caller(endpoint, credentials, wait_s) as caller:
        text = asked.check(caller, credentials)
        if asked.has_session:
            caller.bye()
    return text
