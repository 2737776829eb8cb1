"""The fidelity page: up to date, complete, and made of rows that say something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fidelity.page import PAGE, counts, page
from tests.fidelity.rows import SECTIONS, fidelity
from tests.fidelity.scan import rows
from tests.fidelity.sources import DOMAIN, Sources


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text() == page(rows()), "run `make fidelity`"


def test_every_row_has_a_test_or_a_difference_and_ends_as_a_sentence() -> None:
    for row in rows():
        assert row.tests or row.differs, row
        assert row.real.endswith("."), row
        assert not row.differs or row.differs.endswith("."), row


def test_every_source_is_one_that_the_domain_page_explains() -> None:
    sources = Sources(DOMAIN.read_text())
    assert [row for row in rows() if not sources.explain(row.source)] == []


@pytest.mark.parametrize(
    "source",
    ["K:vas.c", "A:api", "OPT", "UM", "UM p.28", "UM p.46-47", "T:self gzip_vas.c", "PU:src/drmgr/common.c",
     "LNX:lib/gzip_vas.c", "LNX:test/serial-tests", "ML:0bab8a44ac", "https://github.com/open-power/op-test/pull/969"],
)  # fmt: skip
def test_what_the_domain_page_lists_or_cites_is_a_source(source: str) -> None:
    assert Sources(DOMAIN.read_text()).explain(source)


@pytest.mark.parametrize(
    "source",
    ["", "K", "K:", "K:nonsense.c", "K:vas", "T:vas.c", "UM p.", "UM 28", "XX p.3", "T:self nonsense.c", "PU:",
     "PU:drmgr/", "PU:src/drmgr/nonsense.c", "LNX:lib/nonsense.c", "ML:0000000000", "ML:0bab8a44", "ML:<hash>",
     "PU:<file>", "https://github.com/open-power/op-test/pull/9", "K:vas.c, K:nonsense.c"],
)  # fmt: skip
def test_what_the_domain_page_neither_lists_nor_cites_is_no_source(source: str) -> None:
    assert not Sources(DOMAIN.read_text()).explain(source)


def written(folder: Path, text: str) -> Path:
    (folder / "tests").mkdir()
    (folder / "tests" / "test_one.py").write_text(text)
    return folder / "tests"


def test_one_behaviour_on_two_tests_is_one_row(tmp_path: Path) -> None:
    mark = '@fidelity("3 mmap", "A thing happens.", source="T:api")\n'
    found = rows(written(tmp_path, f"{mark}def test_a() -> None: ...\n\n\n{mark}async def test_b() -> None: ...\n"))
    shown = [row.tests for row in found if row.real == "A thing happens."]
    assert shown == [["tests/test_one.py::test_a", "tests/test_one.py::test_b"]]


def test_two_tests_that_disagree_on_a_behaviour_are_refused(tmp_path: Path) -> None:
    one = '@fidelity("3 mmap", "A thing happens.", source="T:api")\ndef test_a() -> None: ...\n'
    other = '@fidelity("3 mmap", "A thing happens.", source="T:api", differs="Not here.")\ndef test_b() -> None: ...\n'
    with pytest.raises(ValueError, match="came others"):
        rows(written(tmp_path, one + other))


def test_a_row_that_is_not_made_of_literals_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected literals"):
        rows(written(tmp_path, '@fidelity("3 mmap", words(), source="T:api")\ndef test_a() -> None: ...\n'))


def test_a_row_of_no_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a section"):
        rows(written(tmp_path, '@fidelity("11 x", "A thing.", source="T:api")\ndef test_a() -> None: ...\n'))
    with pytest.raises(ValueError, match="expected a section"):
        fidelity("11 x", "A thing.", source="T:api")


def test_the_counts_of_the_page_add_up() -> None:
    found = rows()
    text = page(found)
    sections = [counts([row for row in found if row.section == section]) for section in SECTIONS]
    assert counts(found) in text
    assert sum(int(line.split()[0]) for line in sections) == len(found)
    assert text.count("\n| ") == len(found) + 2 * sum(1 for line in sections if not line.startswith("0 "))
