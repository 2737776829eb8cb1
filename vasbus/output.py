"""What the command prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console as Terminal
from rich.table import Table

WIDE_COLUMNS = 200
"""Of output that is no terminal: nothing is cut there."""

out = Terminal(soft_wrap=True, width=None if sys.stdout and sys.stdout.isatty() else WIDE_COLUMNS)
errors = Terminal(stderr=True, soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose numbers are aligned on the right."""
    made = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made
