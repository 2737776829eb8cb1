"""Where something stands in a TOML file: parsers tell values, people look for lines. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence

Steps = tuple[int | str, ...]
"""A place as pydantic names it: table, index where there are several of it, key."""
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def place_of(text: str, source: str, candidates: Sequence[Steps]) -> tuple[str, Steps]:
    """`source:line` and the key that is there: of the candidates the first that is written in the file.

    Where none is, the line is that of the first one's table; without that it is the source alone.
    """
    for steps in candidates:
        line = line_of(text, steps)
        if line:
            return f"{source}:{line}", steps
    steps = candidates[0]
    line = line_of(text, steps[:2] if len(steps) > 2 else steps[:1])
    return (f"{source}:{line}" if line else source), steps


def line_of(text: str, steps: Steps) -> int | None:
    """The line of a key of the file: the table's header first, then the key below it."""
    if not steps:
        return None
    table, rest = str(steps[0]), steps[1:]
    wanted = int(rest[0]) if rest and isinstance(rest[0], int) else 0
    key = str(steps[-1])
    inside, seen = table == key, -1
    for number, line in _code_lines(text):
        if line.startswith("["):
            here = line.strip("[] ").removeprefix("system.")
            seen += here == table
            inside = (here == table and seen == wanted) or (here == "system" and len(steps) == 1)
            if here == table and seen == wanted and len(steps) - isinstance(steps[-1], int) == 1:
                return number
        elif inside and line.split("=")[0].strip(" \t\"'") == key:
            return number
    return None


def syntax_complaint(text: str, source: str, error: tomllib.TOMLDecodeError) -> str:
    """A parser's complaint with its position in front: `source:line: what, column`."""
    found = _POSITION.search(str(error))
    if found is None:
        return f"{source}: {error}"
    what = str(error)[: found.start()]
    if found[1] is None:
        return f"{source}:{max(1, len(text.splitlines()))}: {what} (at the end of the file)"
    return f"{source}:{found[1]}: {what} (column {found[2]})"


def _code_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.split("#")[0].strip()
        if stripped:
            yield number, stripped
