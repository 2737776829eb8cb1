"""What a check of the ledger found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Weight(StrEnum):
    """SENSELESS: the hypervisor does not start with it. WRONG: no hypervisor writes this, and what it does with it is
    not defined. REMARK: allowed, and worth knowing.
    """

    SENSELESS = "senseless"
    WRONG = "wrong"
    REMARK = "remark"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `what` names the rows by table and key, `text` says what is the matter with them."""

    weight: Weight
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.what}: {self.text}"


def wrong(what: str, text: str) -> Finding:
    """Something that no hypervisor writes."""
    return Finding(Weight.WRONG, what, text)


def remark(what: str, text: str) -> Finding:
    """Something allowed."""
    return Finding(Weight.REMARK, what, text)
