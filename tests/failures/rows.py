"""Rows of the failures page: what fails, what users see of it, for how long, what is kept, and the test that shows it.

    @failure("hypervisor", "killed, and restarted within the fence", seen="...", lasts="...", kept="...")
    def test_...(figure):
        figure("exec to the first H_ALLOCATE", took_ms, "ms")

The arguments are literals, because the page is printed from the sources without importing them.
"""

from __future__ import annotations

import pytest

PARTS = {
    "hypervisor": "The hypervisor",
    "ledger": "The ledger",
    "lpar": "A partition",
    "nxunit": "An NX unit",
    "client": "A client",
    "network": "The network",
    "overload": "Overload",
    "shutdown": "Shutdown",
    "security": "Keys and intruders",
}
"""Parts of the page in their order."""


def failure(part: str, what: str, *, seen: str, lasts: str, kept: str) -> pytest.MarkDecorator:
    """Mark a test as showing what a failure means.

    `part` is a key of PARTS; `what` fails; `seen` is what users notice, `lasts` for how long at most, `kept` what is
    not lost. Raises ValueError for an unknown part or an empty text.
    """
    if part not in PARTS:
        raise ValueError(f"expected a part of {', '.join(map(repr, PARTS))}, came {part!r}")
    if not (what and seen and lasts and kept):
        raise ValueError("expected what fails, what is seen, how long it lasts and what is kept, came an empty text")
    return pytest.mark.failure(part=part, what=what, seen=seen, lasts=lasts, kept=kept)
