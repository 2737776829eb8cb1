"""Whose a key may be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocol.claims import SLOT
from protocol.message import NAME_RULE, is_name


class KeysError(ValueError):
    """A key file is wrong, or a key is not there; the text says what was expected, what came and what to do."""


class KeyRole(StrEnum):
    """What the owner of a key is."""

    HYPERVISOR = "hypervisor"
    NX = "nx"
    LPAR = "lpar"
    ENROL = "enrol"
    CLIENT = "client"
    HMC = "hmc"
    OBSERVER = "observer"
    CHAOS = "chaos"


_ROLE_WORDS = frozenset(KeyRole)
NAMED_ROLES = frozenset((KeyRole.NX, KeyRole.LPAR, KeyRole.CLIENT))
"""Roles whose keys are for one unit or partition; a client's is for the partition whose process it is."""
HELLO_ROLES = {KeyRole.NX: "nxunit", KeyRole.ENROL: SLOT}
"""The role in HELLO, where it is called otherwise."""


@dataclass(frozen=True, slots=True, order=True)
class Principal:
    """Whose key it is: `hypervisor`, `nx:nx0`, `lpar:lp1`, `enrol`, `client:lp1`, `hmc`, `observer`, `chaos`."""

    role: KeyRole
    name: str = ""

    def __str__(self) -> str:
        return f"{self.role}:{self.name}" if self.name else str(self.role)

    @classmethod
    def parse(cls, text: str) -> Principal:
        """From its text. Raises KeysError."""
        word, separator, name = text.partition(":")
        role = KeyRole(word) if word in _ROLE_WORDS else None
        named = bool(separator)
        if role is None or named != (role in NAMED_ROLES) or (named and not is_name(name)):
            shapes = ", ".join(f"{known}:NAME" if known in NAMED_ROLES else str(known) for known in KeyRole)
            raise KeysError(f"expected one of {shapes} (a name: {NAME_RULE}), came {text[:80]!r}")
        return cls(role, name)

    @property
    def hello_role(self) -> str:
        """The role that its HELLO has to name."""
        return HELLO_ROLES.get(self.role, str(self.role))
