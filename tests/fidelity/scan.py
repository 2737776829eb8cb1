"""Finds the rows in the sources of the tests, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fidelity.differences import DIFFERENCES
from tests.fidelity.rows import SECTIONS

TESTS = Path(__file__).parents[1]
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
    for row in (*_marked(tests), *_unshown()):
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


def _marked(tests: Path) -> Iterator[Row]:
    for path in sorted(tests.rglob("test_*.py")):
        name = path.relative_to(tests.parent).as_posix()
        text = path.read_text()
        if f"@{DECORATOR}" not in text:
            continue
        for function in _functions(ast.parse(text)):
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == DECORATOR:
                    yield _row(decorator, f"{name}::{function.name}")


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _row(call: ast.Call, test: str) -> Row:
    named = {word.arg: word.value for word in call.keywords if word.arg}
    try:
        section, real = (str(ast.literal_eval(argument)) for argument in call.args)
        texts = {name: str(ast.literal_eval(value)) for name, value in named.items()}
    except ValueError as problem:
        raise ValueError(f"{test}: expected literals in @{DECORATOR}, came {ast.unparse(call)}") from problem
    if section not in SECTIONS:
        raise ValueError(f"{test}: expected a section of tests/fidelity/rows.py, came {section!r}")
    return Row(section, real, texts["source"], texts.get("differs", ""), [test])
