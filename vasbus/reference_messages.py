"""`docs/messages.md`, printed from the models: every message of every link with its fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from inspect import cleandoc

from protocol.codes import CODE_TABLES
from protocol.link import BULK_FRAMES, BULK_LIMIT_BYTES, LINKS, SESSION_DOWN, SESSION_UP
from protocol.message import NAME_RULE, Message, Notice, Reply, Request
from protocol.paste_messages import Paste, PasteCompleted
from protocol.refusals import RefusalCode
from vasbus.reference_schema import DIRECTIONS, Schema, bodies_and_parts, messages_of, wire_name

HEAD = """# Messages

Printed by `make docs` from the models in `protocol/`; a test fails when this copy is stale. How they travel is in
`protocol.md`, the codes are in `codes.md`, and the same as JSON Schema is in `schema/` (`vasbus schema`).

Each title is the envelope's `type`, each table its `body`; a field that has a default may be left out. `u32` is a whole
number of 32 bits, `i64` one with a sign, and so on; bytes are msgpack `bin`, text is msgpack `str`. A *request* is
numbered and answered by a *reply* with its number; a *notice* has no number and may be lost; a *message* stands outside
that exchange. A name is {name_rule}; an endpoint begins with
`tcp://`, `ipc://` or `inproc://`.
"""
SHARED = (*SESSION_UP, *SESSION_DOWN)
"""Messages that are the same on every link that has them."""
BULK_FRAME = {
    Paste: "the history, then the source",
    PasteCompleted: "the target",
}
"""What the frame after frame 0 holds."""
KINDS = ((Request, "request"), (Reply, "reply"), (Notice, "notice"))
WHOLE_NUMBERS = {
    **{(0, (1 << bits) - 1): f"u{bits}" for bits in (8, 16, 32, 64)},
    **{(-(1 << bits - 1), (1 << bits - 1) - 1): f"i{bits}" for bits in (32, 64)},
}
CODES = {**{table.__name__: table.__name__ for table in CODE_TABLES}, RefusalCode.__name__: "Refusals on the bus"}
"""Enumerations that have a table on the page of codes, and its title."""


def messages_page(links: Iterable[str] = LINKS, directions: Sequence[str] = tuple(DIRECTIONS)) -> str:
    """The page, in Markdown, or the part of it for these links and directions."""
    links = list(links)
    chosen = {message for link in links for direction in directions for message in messages_of(link, direction)}
    bodies, parts = bodies_and_parts(sorted(chosen, key=wire_name))
    lines = [HEAD.format(name_rule=NAME_RULE)]
    shared = [message for message in SHARED if message in chosen]
    if shared:
        lines.append("## Shared messages\n")
    for message in shared:
        lines += _message(f"shared: `{wire_name(message)}`", message, bodies)
    for link in links:
        for direction in directions:
            lines += _section(link, direction, bodies)
    return "\n".join([*lines, *_parts(parts)])


def _section(link: str, direction: str, bodies: dict[str, Schema]) -> list[str]:
    messages = messages_of(link, direction)
    lines = [f"## {link}, {direction}: {DIRECTIONS[direction]}\n"]
    shared = [f"[`{wire_name(message)}`](#shared-{wire_name(message)})" for message in messages if message in SHARED]
    if shared:
        lines.append(f"Shared with other links: {', '.join(shared)}.\n")
    for message in messages:
        if message not in SHARED:
            lines += _message(f"{link} {direction}: `{wire_name(message)}`", message, bodies)
    return lines


def _message(title: str, message: type[Message], bodies: dict[str, Schema]) -> list[str]:
    return [f"### {title}\n", *_about(message), *_fields(bodies[wire_name(message)])]


def _about(message: type[Message]) -> list[str]:
    """Kind and meaning, and the frame that follows, if one does."""
    kind = next((word for base, word in KINDS if issubclass(message, base)), "message")
    text = cleandoc(message.__doc__) if message.__doc__ else ""
    lines = [f"A {kind}. {text}".rstrip() + "\n"]
    if BULK_FRAMES.get(message):
        lines.append(f"One more frame: {BULK_FRAME[message]}, at most {BULK_LIMIT_BYTES} bytes.\n")
    return lines


def _parts(parts: dict[str, Schema]) -> list[str]:
    shown = {name: schema for name, schema in parts.items() if name not in CODES}
    lines = ["## Parts\n"] if shown else []
    for name, schema in sorted(shown.items()):
        lines += [f"### {name}\n", schema.get("description", "") + "\n"]
        lines += _fields(schema) if "properties" in schema else [f"{_type(schema)}\n".capitalize()]
    return lines


def _fields(schema: Schema) -> list[str]:
    if not schema["properties"]:
        return ["No fields.\n"]
    required = schema.get("required", [])
    lines = ["| field | type | default |", "| --- | --- | --- |"]
    for name, field in schema["properties"].items():
        default = "required" if name in required else _default(field)
        lines.append(f"| `{name}` | {_type(field)} | {default} |")
    return [*lines, ""]


def _default(field: Schema) -> str:
    if "default" not in field:
        return "empty"
    value = field["default"]
    return "empty" if value == "" else f"`{json.dumps(value)}`"


def _type(field: Schema) -> str:
    """What a field holds, in a few words."""
    if "$ref" in field:
        return _reference(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    kind = field["type"]
    if kind == "integer":
        limits = field["minimum"], field["maximum"]
        return WHOLE_NUMBERS.get(limits) or f"whole number from {limits[0]} to {limits[1]}"
    if kind == "string":
        return _string(field)
    if kind == "array":
        return f"list of {_type(field['items'])}{_span(field, 'minItems', 'maxItems', '')}"
    if kind == "object":
        ((_pattern, value),) = field["patternProperties"].items()
        return f"map of name to {_type(value)}{_span(field, 'minProperties', 'maxProperties', '')}"
    return {"boolean": "true or false", "null": "nil"}[kind]


def _string(field: Schema) -> str:
    if "contentEncoding" in field:
        halved: Schema = {key: field[key] // 2 for key in ("minLength", "maxLength") if key in field}
        return f"bytes{_span(halved, 'minLength', 'maxLength', '')}"
    if "pattern" in field:
        return "endpoint" if "://" in field["pattern"] else "name"
    return f"text{_span(field, 'minLength', 'maxLength', ' characters')}"


def _span(schema: Schema, least_key: str, most_key: str, unit: str) -> str:
    least, most = schema.get(least_key, 0), schema.get(most_key)
    if most is None:
        return ""
    return f", {most}{unit}" if least == most else f", at most {most}{unit}"


def _reference(name: str) -> str:
    if name in CODES:
        return f"[{name}](codes.md#{CODES[name].lower().replace(' ', '-')})"
    return f"[{name}](#{name.lower()})"
