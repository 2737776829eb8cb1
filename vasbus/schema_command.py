"""`vasbus schema`: what goes over the wire, printed from the models."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from protocol.link import LINKS
from vasbus.reference_messages import messages_page
from vasbus.reference_schema import DIRECTIONS, Schema, schema_text, wire_schema


def _known_link(name: str) -> str:
    if name and name not in LINKS:
        raise typer.BadParameter(f"expected one of {', '.join(LINKS)}")
    return name


class Direction(StrEnum):
    """Who speaks."""

    UP = "up"
    DOWN = "down"


LinkOption = Annotated[
    str, typer.Option("--link", metavar=f"[{'|'.join(LINKS)}]", help="Only this link.", callback=_known_link)
]
DirectionOption = Annotated[
    Direction | None,
    typer.Option("--direction", help="Only what the dialling side says (up), or the listening (down)."),
]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print the message reference for people instead.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(schema)


def schema(link: LinkOption = "", direction: DirectionOption = None, markdown: AsMarkdown = False) -> None:
    """Print the wire format: JSON Schema of the messages, or with --markdown their reference.

    With --link and --direction it is one schema; otherwise an object of schemas, by link and then by direction.
    """
    links = [link] if link else list(LINKS)
    directions = [direction.value] if direction else list(DIRECTIONS)
    if markdown:
        sys.stdout.write(messages_page(links, directions))
    elif link and direction:
        sys.stdout.write(schema_text(wire_schema(link, direction.value)))
    else:
        schemas: Schema = {name: {way: wire_schema(name, way) for way in directions} for name in links}
        sys.stdout.write(schema_text(schemas))
