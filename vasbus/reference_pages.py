"""Every page of `docs` that is printed from the code: `python -m vasbus.reference_pages [FOLDER]` writes them."""

from __future__ import annotations

import sys
from pathlib import Path

from protocol.link import LINKS
from protocol.refusals import RefusalCode
from vasbus.reference import codes_page, refusal_rows
from vasbus.reference_messages import messages_page
from vasbus.reference_schema import DIRECTIONS, schema_text, wire_schema

SCHEMA_FOLDER = "schema"
WIRE_PAGE = "protocol.md"
ERRORS_BLOCK = "errors"


def pages(wire_page: str) -> dict[str, str]:
    """Path below `docs` and text of each printed page; `wire_page` is the present text around the error table."""
    schemas = {
        f"{SCHEMA_FOLDER}/{link}.{direction}.json": schema_text(wire_schema(link, direction))
        for link in LINKS
        for direction in DIRECTIONS
    }
    return {
        "codes.md": codes_page(),
        "messages.md": messages_page(),
        WIRE_PAGE: fill(wire_page, ERRORS_BLOCK, "\n".join(refusal_rows(RefusalCode))),
        **schemas,
    }


def fill(page: str, block: str, text: str) -> str:
    """The page with `text` between the two markers of `block`. Raises ValueError where they are not there once each."""
    begin, end = f"<!-- {block}: printed by `make docs` -->\n", f"<!-- {block}: end -->\n"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"expected the markers of {block!r} once each")
    before, rest = page.split(begin)
    return f"{before}{begin}{text}\n{end}{rest.split(end)[1]}"


def block(page: str, name: str) -> str:
    """What stands between the markers of a block."""
    return page.split(f"<!-- {name}: printed by `make docs` -->\n")[1].split(f"<!-- {name}: end -->\n")[0]


def write(docs: Path) -> None:
    """Write every page, and remove schemas of links that are no more."""
    printed = pages((docs / WIRE_PAGE).read_text())
    (docs / SCHEMA_FOLDER).mkdir(exist_ok=True)
    for stale in docs.glob(f"{SCHEMA_FOLDER}/*.json"):
        if stale.relative_to(docs).as_posix() not in printed:
            stale.unlink()
    for path, text in printed.items():
        (docs / path).write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
