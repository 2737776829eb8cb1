"""Rows of the fidelity page: what the real system does, where that is written, and what a test shows of it here.

A test carries its rows as decorators:

    @fidelity("3 ioctl", "used + 1 above the total is EINVAL, and no hcall is made", source="K:vas.c")
    def test_an_open_above_the_total_...

The arguments are literals, because the page is printed from the sources without importing them. The same behaviour on
several tests is one row. `differs` says where this system deliberately is not like the real one.
"""

from __future__ import annotations

import pytest

SECTIONS = {
    "1 hcalls": "Hypervisor calls and their return codes",
    "1 errnos": "How the kernel maps return codes, and its busy loop",
    "1 over-use": "What the hypervisor does about windows beyond the target",
    "2 capabilities": "Capability buffers",
    "2 requests": "Requests, their operands and their completion",
    "2 accelerator": "The accelerator: credits, receive FIFOs, byte limits",
    "3 ioctl": "Opening a window",
    "3 mmap": "Mapping the paste address",
    "3 paste": "Pasting, and faults on the paste address",
    "3 faults": "Translation faults",
    "3 lifetime": "When a window ends",
    "4 files": "Files of the partition",
    "5 credits": "How many credits a partition has",
    "5 open": "Credits and windows at open",
    "5 close": "Credits and windows at close",
    "5 reconfigure": "What a changed total closes and reopens",
    "5 triggers": "What makes the kernel look at its credits",
    "5 migration": "Live partition migration",
    "5 races": "Races",
    "6 commands": "Management console and drmgr",
    "7 libnxz": "The user library's decisions",
}
"""Sections of the page in their order; the number is the section of docs/domain.md."""


def fidelity(section: str, real: str, *, source: str, differs: str = "") -> pytest.MarkDecorator:
    """Mark a test as showing one behaviour of the real system.

    `section` is a key of SECTIONS, `real` one sentence on the real system, `source` one of the sources of
    docs/domain.md, `differs` the reason where the test shows something else. Raises ValueError for an unknown section
    or an empty text.
    """
    if section not in SECTIONS:
        raise ValueError(f"expected a section of {', '.join(map(repr, SECTIONS))}, came {section!r}")
    if not real or not source:
        raise ValueError("expected what the real system does and its source, came an empty text")
    return pytest.mark.fidelity(section=section, real=real, source=source, differs=differs)
