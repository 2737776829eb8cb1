"""Finds the decorators of one name in the sources of the tests, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Marked:
    """One decorator: its arguments, all of them texts, and the test that carries it with what that takes."""

    test: str
    arguments: tuple[str, ...]
    named: dict[str, str]
    parameters: tuple[str, ...]


def marked(decorator: str, tests: Path = TESTS) -> Iterator[Marked]:
    """Every use on a function of a module `test_*.py`. Raises ValueError where an argument is not a literal."""
    for path in sorted(tests.rglob("test_*.py")):
        name = path.relative_to(tests.parent).as_posix()
        text = path.read_text()
        if f"@{decorator}" not in text:
            continue
        for function in ast.parse(text).body:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in function.decorator_list:
                    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                        yield _read(call, decorator, f"{name}::{function.name}", function.args)


def _read(call: ast.Call, decorator: str, test: str, taken: ast.arguments) -> Marked:
    try:
        arguments = tuple(str(ast.literal_eval(argument)) for argument in call.args)
        named = {word.arg: str(ast.literal_eval(word.value)) for word in call.keywords if word.arg}
    except ValueError as problem:
        raise ValueError(f"{test}: expected literals in @{decorator}, came {ast.unparse(call)}") from problem
    return Marked(test, arguments, named, tuple(each.arg for each in (*taken.args, *taken.kwonlyargs)))
