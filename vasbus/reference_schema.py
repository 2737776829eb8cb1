"""JSON Schema of the wire, printed from the models: one schema per link and direction, the envelope included.

JSON has no bytes: where msgpack has a `bin`, the schema describes a string of hex digits (`contentEncoding` base16),
and that is how the value is to be written before it is validated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from protocol.link import BODY_LIMIT_BYTES, BULK_FRAMES, BULK_LIMIT_BYTES, LINKS
from protocol.message import Message
from protocol.wire import WIRE_VERSION

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DIRECTIONS = {"up": "from the dialling side", "down": "from the listening side"}
HEX_DIGITS = "^([0-9a-f]{2})*$"
COUNTER_MOST = (1 << 63) - 1
"""Of epoch, number and acked."""
_MODE: JsonSchemaMode = "validation"


class _Generator(GenerateJsonSchema):
    """pydantic's, with bytes as hex digits, closed maps and no titles made up from field names."""

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        made: JsonSchemaValue = {"type": "string", "contentEncoding": "base16", "pattern": HEX_DIGITS}
        for key, limit in (("minLength", schema.get("min_length")), ("maxLength", schema.get("max_length"))):
            if limit is not None:
                made[key] = 2 * limit
        return made

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made

    def encode_default(self, dft: Any) -> Any:
        return dft.hex() if isinstance(dft, bytes) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def messages_of(link: str, direction: str) -> tuple[type[Message], ...]:
    """The messages of a link in a direction, `up` or `down`."""
    vocabulary = LINKS[link].up if direction == "up" else LINKS[link].down
    return vocabulary.messages


def wire_name(message: type[Message]) -> str:
    """What stands as `type` in the envelope."""
    return str(message.model_fields["type"].default)


def bodies_and_parts(messages: Sequence[type[Message]]) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """The schema of each message's body by wire name, and of the parts and codes that they refer to."""
    refs, schema = models_json_schema(
        [(message, _MODE) for message in messages], ref_template="#/$defs/{model}", schema_generator=_Generator
    )
    definitions: dict[str, Schema] = schema["$defs"]
    bodies: dict[str, Schema] = {}
    for message in messages:
        body = definitions[_referred(refs[message, _MODE])]
        fields = {name: field for name, field in body["properties"].items() if name != "type"}
        bodies[wire_name(message)] = {**body, "properties": fields}
    used = _used([*bodies.values()], definitions)
    return bodies, {name: schema for name, schema in definitions.items() if name in used}


def _referred(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _used(value: object, definitions: dict[str, Schema]) -> set[str]:
    """The names of the definitions that are referred to, also by each other. A message may be part of another."""
    if isinstance(value, list):
        return set().union(*(_used(item, definitions) for item in value))
    if not isinstance(value, dict):
        return set()
    if "$ref" in value:
        name = _referred(value)
        return {name} | _used(definitions[name], definitions)
    return _used([*value.values()], definitions)


def wire_schema(link: str, direction: str) -> Schema:
    """The JSON Schema of frame 0 of every message of a link in a direction."""
    messages = messages_of(link, direction)
    bodies, definitions = bodies_and_parts(messages)
    envelopes = {
        wire_name(message): _envelope(wire_name(message), bodies[wire_name(message)], BULK_FRAMES.get(message, 0))
        for message in messages
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:vasbus:{link}:{direction}",
        "title": f"The {link} link, {DIRECTIONS[direction]}",
        "description": (
            f"Frame 0, a msgpack map of at most {BODY_LIMIT_BYTES} bytes, written as JSON: a msgpack bin as hex digits "
            "(contentEncoding base16), everything else as it is. x-bulk-frames: how many frames of bytes follow, each "
            f"of at most {BULK_LIMIT_BYTES}."
        ),
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in envelopes],
        "$defs": {"counter": {"type": "integer", "minimum": 0, "maximum": COUNTER_MOST}, **envelopes, **definitions},
    }


def _envelope(name: str, body: Schema, bulk_frames: int) -> Schema:
    counter = {"$ref": "#/$defs/counter"}
    properties: Schema = {
        "v": {"type": "integer", "const": WIRE_VERSION},
        "type": {"const": name},
        "epoch": counter,
        "number": counter,
        "acked": counter,
        "body": body,
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "x-bulk-frames": bulk_frames,
    }


def schema_text(schema: Schema) -> str:
    """A schema as it is printed."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def as_json(value: object) -> object:
    """What msgpack carries, as the schemas describe it: bytes become hex digits."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value
