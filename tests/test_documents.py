"""Pages that are printed from the code are up to date, and the README keeps to its measure."""

from __future__ import annotations

from pathlib import Path

from vasbus.reference import codes_page

ROOT = Path(__file__).parent.parent


def test_the_page_of_codes_is_what_the_tables_say() -> None:
    assert (ROOT / "docs" / "codes.md").read_text() == codes_page(), "stale: run `make docs`"


def test_the_readme_is_at_most_120_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
