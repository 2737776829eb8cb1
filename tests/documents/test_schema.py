"""The printed schemas describe what the codec takes: a validator and the codec agree on good and on bad messages."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from protocol.link import BULK_FRAMES, LINKS
from protocol.message import Message
from protocol.wire import Envelope, WireError, decode, encode
from tests.protocol.messages import EVERY_MESSAGE, VOCABULARIES, envelopes
from vasbus.reference_schema import as_json, wire_name

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MESSAGES = pytest.mark.parametrize(
    ("place", "message"), EVERY_MESSAGE, ids=[f"{place} {wire_name(message)}" for place, message in EVERY_MESSAGE]
)


@cache
def schema_of(place: str) -> dict[str, Any]:
    link, direction = place.split()
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{link}.{direction}.json").read_text())
    return schema


def complaints(place: str, head: dict[str, Any]) -> list[str]:
    """What a validator says to a message, by the schema of its own type: `oneOf` would only say that none fits."""
    name = head["type"]
    schema = {**schema_of(place), "oneOf": [{"$ref": f"#/$defs/{name}"}]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(as_json(head))]


def head_of(envelope: Envelope) -> dict[str, Any]:
    head: dict[str, Any] = msgpack.unpackb(encode(envelope)[0])
    return head


def is_taken(place: str, message: type[Message], head: dict[str, Any]) -> bool:
    """Whether the codec takes this frame 0, with the frames of its type after it."""
    bulk = [b""] * BULK_FRAMES.get(message, 0)
    try:
        decode([msgpack.packb(head), *bulk], VOCABULARIES[place])
    except WireError:
        return False
    return True


def test_every_link_and_direction_has_a_schema_that_is_one() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{place.replace(' ', '.')}.json" for place in VOCABULARIES}
    for place, vocabulary in VOCABULARIES.items():
        schema = schema_of(place)
        Draft202012Validator.check_schema(schema)
        assert {choice["$ref"] for choice in schema["oneOf"]} == {f"#/$defs/{name}" for name in vocabulary.names}


@MESSAGES
@FEW
@given(data=st.data())
def test_every_message_of_the_bus_is_valid(place: str, message: type[Message], data: st.DataObject) -> None:
    envelope = data.draw(envelopes(message))
    head = head_of(envelope)
    assert complaints(place, head) == []
    assert list(Draft202012Validator(schema_of(place)).iter_errors(as_json(head))) == []
    assert schema_of(place)["$defs"][head["type"]]["x-bulk-frames"] == len(envelope.frames)


def spoilt(head: dict[str, Any], required: list[str]) -> list[dict[str, Any]]:
    """The message with one thing wrong: each is what a first client of somebody's gets wrong."""
    body = head["body"]
    wrong = [{**head, "body": {key: value for key, value in body.items() if key != name}} for name in required]
    wrong += [{**head, "body": {**body, "surplus": 1}}, {**head, "v": 2}, {**head, "number": -1}]
    wrong += [{**head, "number": 1 << 63}, {**head, "surplus": 1}, {key: head[key] for key in head if key != "acked"}]
    for name, value in body.items():
        others: list[Any] = [-1, 1.5, "!", [[]], {"!": 1}]
        wrong += [{**head, "body": {**body, name: other}} for other in others if type(other) is not type(value)]
    return wrong


@MESSAGES
@FEW
@given(data=st.data())
def test_what_the_codec_refuses_the_schema_refuses(place: str, message: type[Message], data: st.DataObject) -> None:
    head = head_of(data.draw(envelopes(message)))
    required = schema_of(place)["$defs"][head["type"]]["properties"]["body"].get("required", [])
    refused = 0
    for wrong in spoilt(head, required):
        taken = is_taken(place, message, wrong)
        assert bool(complaints(place, wrong)) is not taken, wrong
        refused += not taken
    assert refused >= 6 + len(required)


def test_bytes_are_hex_digits_of_the_length_that_the_field_allows() -> None:
    token = schema_of("paste up")["$defs"]["paste"]["properties"]["body"]["properties"]["token"]
    assert (token["contentEncoding"], token["minLength"], token["maxLength"]) == ("base16", 32, 32)
    validator = Draft202012Validator(token)
    assert validator.is_valid(as_json(bytes(16)))
    assert not any(validator.is_valid(wrong) for wrong in ("0" * 31, "0" * 34, "G" * 32, 16))


def test_the_links_of_the_schemas_are_those_of_the_bus() -> None:
    assert {place.split()[0] for place in VOCABULARIES} == set(LINKS)
