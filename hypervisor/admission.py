"""Who may connect to the hypervisor. Pure."""

from __future__ import annotations

from hypervisor.console import CONSOLE_ROLES, OBSERVER
from hypervisor.ledger import Ledger
from hypervisor.slots import LPAR
from protocol.claims import SLOT
from protocol.listener import Listener
from protocol.refusals import RefusalCode
from protocol.session_messages import Hello, Refused
from protocol.wire import refuse

OPERATORS_SHARE = 8
"""One place of so many at the hmc link is kept from observers."""


def admit_lpar(ledger: Ledger, hello: Hello) -> Refused | None:
    """A partition, or somebody who had a slot and wants to go on."""
    if hello.role == SLOT or (hello.role == LPAR and hello.name in ledger.partitions):
        return None
    expected = f"a partition: {', '.join(sorted(ledger.named))}"
    return refuse(RefusalCode.UNKNOWN_NAME, expected, f"{hello.role} {hello.name!r}")


def admit_unit(ledger: Ledger, hello: Hello) -> Refused | None:
    """A unit of one of the chips."""
    if hello.role == "nxunit" and ledger.system.chip_of_unit(hello.name) is not None:
        return None
    expected = f"an NX unit: {', '.join(sorted(chip.unit for chip in ledger.system.chip))}"
    return refuse(RefusalCode.UNKNOWN_NAME, expected, f"{hello.role} {hello.name!r}")


def admit_console(link: Listener, hello: Hello) -> Refused | None:
    """A console; an observer only while there is room."""
    if hello.role == OBSERVER and hello.name not in link.sessions:
        return _room_for_observers(link)
    if hello.role in CONSOLE_ROLES:
        return None
    expected = f"one of the roles {', '.join(CONSOLE_ROLES)}"
    return refuse(RefusalCode.UNKNOWN_NAME, expected, f"{hello.role} {hello.name!r}")


def _room_for_observers(link: Listener) -> Refused | None:
    """They may not take every place: who is to manage the machine has to find one."""
    places = link.terms.session_limit - max(1, link.terms.session_limit // OPERATORS_SHARE)
    observers = sum(session.role == OBSERVER for session in link.sessions.values())
    if observers < places:
        return None
    return refuse(RefusalCode.SESSIONS_FULL, f"at most {places} sessions of observers", "one more", 1000)
