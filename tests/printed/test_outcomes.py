"""What came of tests: green are those that ran and passed, and a figure is told by the test that measured it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.printed.outcomes import Outcomes

QUIET = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
LINES = (
    "import pytest",
    "def test_good(record_property): record_property('figure', 'took 3 ms')",
    "def test_bad(): assert 0",
    "def test_skipped(): pytest.skip()",
)


def test_a_row_is_green_only_where_each_of_its_tests_ran_and_passed(tmp_path: Path) -> None:
    path = tmp_path / "test_rows_of_this_test.py"
    path.write_text("\n".join(LINES))
    outcomes = Outcomes()
    pytest.main([*QUIET, "--rootdir", str(tmp_path), str(path)], plugins=[outcomes])
    good, bad, skipped, missing = (f"{path.name}::test_{name}" for name in ("good", "bad", "skipped", "missing"))
    assert outcomes.are_green([good])
    assert not any(outcomes.are_green(tests) for tests in ([bad], [skipped], [missing], [good, bad]))
    assert outcomes.figures[good] == ["took 3 ms"]
