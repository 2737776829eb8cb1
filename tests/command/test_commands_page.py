"""docs/commands.md: every example is run, in order, and prints what the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.command.test_command import Shell
from vasbus.command import app
from vasbus.exec.programs import ON_CONSOLE, ON_PARTITION

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
STATUS = "echo $?"


def examples() -> list[tuple[str, str]]:
    """Each command line of the page and the output that follows it."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = example.partition("\n")
            found.append((line, output))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a cluster of the sample system runs."""
    shell = Shell(tmp_path)
    try:
        shell.run("up")
        yield tmp_path
    finally:
        shell.run("down")


def run(folder: Path, line: str) -> tuple[int, str]:
    """A command line's exit code, and its output and errors as a terminal shows them."""
    words = shlex.split(line)
    assert words[0] == "vasbus", line
    done = CliRunner().invoke(app, words[1:], env={"VASBUS_DIR": str(folder / ".vasbus")})
    assert done.exception is None or isinstance(done.exception, SystemExit), f"{line}: {done.exception!r}"
    return done.exit_code, done.output


def test_the_examples_print_what_the_page_says(folder: Path) -> None:
    """An exit code that is not asked for with `echo $?` is 0, or something was printed on standard error."""
    code = 0
    for line, expected in examples():
        if line == STATUS:
            assert f"{code}\n" == expected
        else:
            code, printed = run(folder, line)
            assert printed == expected, line
            assert expected or code == 0, line


def test_the_examples_name_every_command() -> None:
    lines = "\n".join(line for line, _ in examples())
    for name in ON_PARTITION:
        assert re.search(rf"lpar exec lp\d -- {name}\b", lines), name
    for name in ON_CONSOLE:
        assert re.search(rf"hmc exec -- {name}\b", lines), name
