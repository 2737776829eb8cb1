"""A page fault on a paste mapping: vas_mmap_fault. Source: domain.md 3."""

from __future__ import annotations

from lpar.process import DeviceFile
from lpar.window import Mapping
from protocol.codes import FaultOutcome, Instruction
from protocol.device_messages import FaultHandled


def vas_mmap_fault(file: DeviceFile | None, mapping: Mapping | None, instruction: Instruction) -> FaultHandled:
    """Decide what a process that touched a mapping gets.

    No window behind it, or not the mapping that the last mmap made: SIGBUS. An active window: its present paste
    address is mapped and the instruction runs again. A closed one: a paste fails as if the accelerator were busy,
    anything else is SIGBUS.
    """
    window = None if file is None else file.window
    if window is None or mapping is None or window.mapping is not mapping:
        return FaultHandled(outcome=FaultOutcome.SIGBUS)
    if window.is_active and window.paste_address is not None:
        mapping.backed = True
        return FaultHandled(outcome=FaultOutcome.REMAPPED, address=window.paste_address)
    if instruction is Instruction.PASTE:
        return FaultHandled(outcome=FaultOutcome.PASTE_FAILED)
    return FaultHandled(outcome=FaultOutcome.SIGBUS)
