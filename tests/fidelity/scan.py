"""The rows of the fidelity page, from the sources of the tests and the table of differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fidelity.differences import DIFFERENCES
from tests.fidelity.rows import SECTIONS
from tests.printed.scan import TESTS, Marked, marked

DECORATOR = "fidelity"


@dataclass(slots=True)
class Row:
    """A behaviour and the tests that show it; none where nothing can be shown."""

    section: str
    real: str
    source: str
    differs: str
    tests: list[str] = field(default_factory=list)


def rows(tests: Path = TESTS) -> list[Row]:
    """All rows, in the order of the sections, within one as the sources have them.

    Raises ValueError where a row is not made of literals, or where two disagree on one behaviour.
    """
    found: dict[tuple[str, str], Row] = {}
    for row in (*map(_row, marked(DECORATOR, tests)), *_unshown()):
        first = found.setdefault((row.section, row.real), row)
        if first is row:
            continue
        if (first.source, first.differs) != (row.source, row.differs):
            raise ValueError(f"{row.tests[0]}: expected the source and difference of {first.tests}, came others")
        first.tests.extend(row.tests)
    order = list(SECTIONS)
    return sorted(found.values(), key=lambda row: order.index(row.section))


def _unshown() -> Iterator[Row]:
    for one in DIFFERENCES:
        yield Row(one.section, one.real, one.source, one.differs)


def _row(mark: Marked) -> Row:
    section, real = mark.arguments
    if section not in SECTIONS:
        raise ValueError(f"{mark.test}: expected a section of tests/fidelity/rows.py, came {section!r}")
    return Row(section, real, mark.named["source"], mark.named.get("differs", ""), [mark.test])
