"""One translation fault as the hypervisor keeps it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hypervisor.rows import FaultRow
from protocol.clock import MILLISECOND_US
from protocol.codes import Operand
from protocol.fabric_messages import FaultRaised

INTERRUPT_FIRST_US = 50 * MILLISECOND_US
U64_BYTES = 8


class FaultState(StrEnum):
    """WAITING for the kernel; FETCHED, while the unit has not confirmed that the window credit is back; SETTLED after.

    The newest settled fault of a window is kept: a unit that has lost its memory may raise the same number again.
    """

    WAITING = "waiting"
    FETCHED = "fetched"
    SETTLED = "settled"


@dataclass(slots=True)
class Fault:
    """The request `number` of a window, stopped at `fault_address`. `due_us`: when the kernel is interrupted again."""

    window_id: int
    number: int
    function: int
    operand: Operand
    fault_address: int
    csb_address: int
    state: FaultState = FaultState.WAITING
    due_us: int = 0
    repeat_us: int = INTERRUPT_FIRST_US

    def row(self) -> FaultRow:
        return FaultRow(
            self.window_id, blob(self.number), self.function, str(self.operand), blob(self.fault_address),
            blob(self.csb_address), str(self.state),
        )  # fmt: skip

    @property
    def key(self) -> tuple[int, bytes]:
        """The key of its row."""
        return self.window_id, blob(self.number)

    @classmethod
    def from_row(cls, row: FaultRow) -> Fault:
        return cls(
            row.window_id, int.from_bytes(row.number), row.function, Operand(row.operand),
            int.from_bytes(row.fault_address), int.from_bytes(row.csb_address), FaultState(row.state),
        )  # fmt: skip

    @classmethod
    def from_unit(cls, told: FaultRaised) -> Fault:
        return cls(
            told.window_id, told.number, told.function, told.operand, told.fault_address, told.csb_address
        )  # fmt: skip


def blob(value: int) -> bytes:
    """A 64-bit number for the store: the sender chose it, and SQLite's own integers are signed."""
    return value.to_bytes(U64_BYTES)
