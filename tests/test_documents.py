"""Pages that are printed from the code are up to date, and the README keeps to its measure."""

from __future__ import annotations

from pathlib import Path

import hmc
import lpar.client
import vasbus
from vasbus.reference import codes_page

ROOT = Path(__file__).parent.parent


def test_the_page_of_codes_is_what_the_tables_say() -> None:
    assert (ROOT / "docs" / "codes.md").read_text() == codes_page(), "stale: run `make docs`"


def test_the_readme_is_at_most_120_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_public_names_are_those_of_the_client_library_and_of_the_console() -> None:
    assert lpar.client.__all__ == sorted(lpar.client.__all__)
    assert vasbus.__all__ == sorted([*lpar.client.__all__, *hmc.__all__, "aio"])
    for package in (lpar.client, hmc):
        assert all(getattr(vasbus, name) is getattr(package, name) for name in package.__all__)
    assert vasbus.aio.__all__ == lpar.client.aio.__all__
    assert all(getattr(vasbus.aio, name) is getattr(lpar.client.aio, name) for name in vasbus.aio.__all__)
