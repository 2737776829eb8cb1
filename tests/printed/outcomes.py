"""What came of the tests whose rows a page shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

FIGURE = "figure"
"""The name of the user property that the `figure` fixture leaves on a test's report."""


@dataclass(slots=True, eq=False)
class Outcomes:
    """A pytest plugin: which tests passed, and what they measured, by their name without parameters."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    figures: dict[str, list[str]] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("[")[0]
        if report.when == "call" and report.passed:
            self.passed.add(name)
            measured = [str(value) for kind, value in report.user_properties if kind == FIGURE]
            self.figures.setdefault(name, []).extend(measured)
        elif not report.passed:
            self.failed.add(name)

    def are_green(self, tests: Iterable[str]) -> bool:
        """Whether each of them ran and passed."""
        return set(tests) <= self.passed - self.failed


def cell(text: str) -> str:
    """A text as it stands in a table of Markdown."""
    return text.replace("|", "\\|")


def link(test: str) -> str:
    """A test as a link to its file, from a page in `docs`."""
    path, _, name = test.partition("::")
    return f"[{name}](../{path})"
