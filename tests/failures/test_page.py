"""The failures page: up to date but for its figures, and made of rows that say something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.failures.page import PAGE, page, printed_figures, rows, without_figures
from tests.failures.rows import failure

ROW = '@failure("lpar", "dies", seen="Nothing.", lasts="A lease.", kept="All.")\ndef test_a() -> None: ...\n'


def test_the_page_is_not_stale() -> None:
    text = PAGE.read_text()
    assert text == page(rows(), printed_figures(text)), "run `make failures`"


def test_every_test_that_measures_has_its_figures_on_the_page() -> None:
    assert without_figures(rows(), printed_figures(PAGE.read_text())) == [], "run `make failures`"


def test_a_test_that_measures_and_reports_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    measuring = ROW.replace("test_a()", "test_b(figure: Figure)")
    (tmp_path / "tests" / "test_one.py").write_text(f"{ROW}{measuring}")
    found = rows(tmp_path / "tests")
    silent, told = "tests/test_one.py::test_b", ["took: 3 ms"]
    assert without_figures(found, {}) == [silent]
    assert without_figures(found, {"tests/test_one.py::test_a": told}) == [silent]
    assert without_figures(found, {silent: told}) == []


def test_figures_are_printed_beside_their_test_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(ROW)
    found = rows(tmp_path / "tests")
    text = page(found, {"tests/test_one.py::test_a": ["took: 3 ms", "bound: 5 ms"]})
    assert (
        "| dies | Nothing. | A lease. | All. | [test_a](../tests/test_one.py)<br>`took: 3 ms`<br>`bound: 5 ms` |"
        in text
    )
    assert printed_figures(text) == {"tests/test_one.py::test_a": ["took: 3 ms", "bound: 5 ms"]}


def test_a_row_of_no_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(ROW.replace("lpar", "moon"))
    with pytest.raises(ValueError, match="expected a part"):
        rows(tmp_path / "tests")
    with pytest.raises(ValueError, match="expected a part"):
        failure("moon", "dies", seen="Nothing.", lasts="A lease.", kept="All.")
    with pytest.raises(ValueError, match="empty"):
        failure("lpar", "dies", seen="", lasts="A lease.", kept="All.")
