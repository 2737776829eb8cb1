"""What a window's number gives: its paste page and its interrupts. Pure."""

from __future__ import annotations

from hypervisor.ledger import Window
from hypervisor.unit import Unit
from protocol.message import PasteAddress

PASTE_ADDRESS_BASE = 0x0006_0000_0000_0000
INTERRUPT_BASE = 0x1000


def completion_interrupt(window_id: int) -> int:
    """The number of the interrupt for completed requests."""
    return INTERRUPT_BASE + 2 * window_id


def fault_interrupt(window_id: int) -> int:
    """The number of the interrupt for translation faults."""
    return completion_interrupt(window_id) + 1


def address_of(window: Window, unit: Unit | None) -> int:
    """The logical real address of the window's paste page: a page per window within its chip's range; 0: no chip."""
    if unit is None:
        return 0
    return PASTE_ADDRESS_BASE | unit.chip.number << 40 | (window.window_id & 0xFF_FFFF) << 16


def paste_address(window: Window, unit: Unit) -> PasteAddress:
    """Where the window's pastes go."""
    return PasteAddress(
        address=address_of(window, unit),
        unit=unit.name,
        endpoints=unit.endpoints,
        window_id=window.window_id,
        token=window.token,
    )
