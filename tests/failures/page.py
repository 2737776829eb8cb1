"""Prints docs/failures.md. `python -m tests.failures.page` runs the tests of all rows first and prints if all pass.

The figures are those that the tests measured in that run, so that they differ from one print to the next.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.failures.rows import PARTS
from tests.printed.outcomes import Outcomes, cell, link
from tests.printed.scan import TESTS, marked

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"
INTRODUCTION = """\
# What fails, and what it costs

Each row: what fails, what users see of it, for how long at most, what is kept, and the test that shows it with the
figures that it measured when this page was printed, on two shared and busy cores. Times are those of the settings of
each test; where a bound follows from settings they are named ([system.toml](../deploy/system.toml) has the sample's).
`make failures` runs the tests and prints the page.
"""
FIGURE_CELL = re.compile(r"<br>`([^`]*)`")


@dataclass(frozen=True, slots=True)
class Row:
    """One failure and the test that shows it. `measures`: it reports figures, which then belong on the page."""

    part: str
    what: str
    seen: str
    lasts: str
    kept: str
    test: str
    measures: bool


def rows(tests: Path = TESTS) -> list[Row]:
    """All rows, in the order of the parts. Raises ValueError for one of no part."""
    found: list[Row] = []
    for mark in marked("failure", tests):
        part, what = mark.arguments
        if part not in PARTS:
            raise ValueError(f"{mark.test}: expected a part of tests/failures/rows.py, came {part!r}")
        named, measures = mark.named, "figure" in mark.parameters
        found.append(Row(part, what, named["seen"], named["lasts"], named["kept"], mark.test, measures))
    order = list(PARTS)
    return sorted(found, key=lambda row: order.index(row.part))


def page(found: Sequence[Row], figures: Mapping[str, Sequence[str]]) -> str:
    """The page's text; `figures` are the measured ones by test."""
    parts = [INTRODUCTION]
    for part, title in PARTS.items():
        here = [row for row in found if row.part == part]
        if here:
            parts.append(f"## {title}\n")
            parts.append("| what fails | what users see | how long | what is kept | shown by |\n" + "| --- " * 5 + "|")
            parts.extend(_line(row, figures.get(row.test, ())) for row in here)
            parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _line(row: Row, figures: Sequence[str]) -> str:
    shown = link(row.test) + "".join(f"<br>`{figure}`" for figure in figures)
    return f"| {' | '.join(map(cell, (row.what, row.seen, row.lasts, row.kept, shown)))} |"


def without_figures(found: Sequence[Row], figures: Mapping[str, Sequence[str]]) -> list[str]:
    """The tests that report figures of which there is none."""
    return [row.test for row in found if row.measures and not figures.get(row.test)]


def printed_figures(text: str) -> dict[str, list[str]]:
    """The figures that stand in a printed page, by test."""
    figures: dict[str, list[str]] = {}
    for line in text.splitlines():
        test = re.search(r"\[(\w+)\]\(\.\./([^)]*)\)", line)
        if test is not None:
            figures[f"{test[2]}::{test[1]}"] = FIGURE_CELL.findall(line)
    return figures


def main() -> int:
    """Run the tests of the rows; 0 and a new page if every one passed, 1 otherwise."""
    found, outcomes = rows(), Outcomes()
    pytest.main(["-m", "failure", *sorted({row.test for row in found})], plugins=[outcomes])
    missing = [row for row in found if not outcomes.are_green([row.test])]
    for row in missing:
        print(f"not green: {row.part}: {row.what} ({row.test})", file=sys.stderr)
    silent = without_figures(found, outcomes.figures)
    for test in silent:
        print(f"has a figure to report and reported none: {test}", file=sys.stderr)
    if missing or silent:
        return 1
    PAGE.write_text(page(found, outcomes.figures))
    print(f"docs/failures.md: {len(found)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
