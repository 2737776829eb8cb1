"""Whose HELLO it is, and what is said to those who claim a name that somebody has. Pure.

Nearly everybody says his own name. Whoever serves a slot does not know it: the hypervisor picks one.
"""

from __future__ import annotations

from typing import Protocol

from protocol.refusals import RefusalCode
from protocol.session import Session, Terms
from protocol.session_messages import Hello, Refused
from protocol.wire import refuse

SLOT = "slot"
"""The role of who claims a slot by its template's name."""
CLAIMS_LIMIT = 16
"""Incarnations that wait for one name and are remembered; the oldest is forgotten for one more."""


class Claims(Protocol):
    """Turns HELLOs into those of the names they get."""

    def resolve(self, hello: Hello, now_us: int) -> Hello | Refused:
        """The HELLO under the role and name that its session has or is to have; or why there is none."""

    def family(self, name: str) -> str:
        """Names of one family have one counter of epochs: a number then tells sessions of all of them apart."""


class OwnNames:
    """Everybody is who he says."""

    def resolve(self, hello: Hello, now_us: int) -> Hello | Refused:
        return hello

    def family(self, name: str) -> str:
        return name


def name_in_use(holder: Session, hello: Hello, terms: Terms, now_us: int) -> Refused:
    """Somebody has the name. For good, once that one has shown for two leases that it lives.

    Time alone would not do: a restart gives a dead holder a full new lease. So it must have been heard when the lease
    that it had at the first claim was over, and claims are counted anew by a restarted process. A session that lives
    with its connection is probed: it lives for as long as the connection is not found gone.
    """
    since_us = holder.claims.setdefault(hello.incarnation, now_us)
    while len(holder.claims) > CLAIMS_LIMIT:
        del holder.claims[next(iter(holder.claims))]
    lease_us = terms.lease_us + terms.drift_margin_us
    renewed_us = holder.heard_us if terms.by_beats else now_us
    expected, came = f"no live session of {hello.name!r}", "a second HELLO"
    if now_us >= since_us + 2 * lease_us and renewed_us >= since_us + lease_us:
        return refuse(RefusalCode.NAME_HELD, expected, f"{came}; the process with pid {holder.pid} has it")
    return refuse(RefusalCode.IN_USE, expected, came, 500)
