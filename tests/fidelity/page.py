"""Prints docs/fidelity.md. `python -m tests.fidelity.page` runs the tests of all rows first and prints if all pass."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fidelity.rows import SECTIONS
from tests.fidelity.scan import Row, rows
from tests.printed.outcomes import Outcomes, cell, link

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"
INTRODUCTION = """\
# Fidelity, row by row

Each row is one behaviour of the real system: what it does, where that is written (a source of
[domain.md](domain.md), whose first table explains the keys and whose section numbers these are), and the test that
shows it here. Where this system is different on purpose, the row says so; where nothing can be shown there is no test.
This page is printed from the tests: `make fidelity` runs them all and writes it only when every one passes.
"""


def page(found: Sequence[Row]) -> str:
    """The page's text."""
    parts = [INTRODUCTION, f"{counts(found)}\n"]
    for section, title in SECTIONS.items():
        here = [row for row in found if row.section == section]
        if here:
            parts.append(f"## {section.split()[0]}: {title} ({counts(here)})\n")
            parts.append("| real system | source | here |\n| --- | --- | --- |")
            parts.extend(_line(row) for row in here)
            parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def counts(found: Sequence[Row]) -> str:
    """`12 rows: 10 green, 2 differ`."""
    differing = sum(1 for row in found if row.differs)
    return f"{len(found)} rows: {len(found) - differing} green, {differing} differ"


def _line(row: Row) -> str:
    here = [f"Differs: {row.differs}"] if row.differs else []
    cells = (row.real, row.source, "<br>".join([*here, *map(link, row.tests)]))
    return f"| {' | '.join(map(cell, cells))} |"


def main() -> int:
    """Run the tests of the rows; 0 and a new page if every row is green, 1 otherwise."""
    found, outcomes = rows(), Outcomes()
    pytest.main(["-m", "fidelity", *sorted({test for row in found for test in row.tests})], plugins=[outcomes])
    missing = [row for row in found if not outcomes.are_green(row.tests)]
    for row in missing:
        print(f"not green: {row.section}: {row.real} ({', '.join(row.tests)})", file=sys.stderr)
    if missing:
        return 1
    PAGE.write_text(page(found))
    print(f"docs/fidelity.md: {counts(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
