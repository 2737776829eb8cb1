"""Hypothesis strategies for every message of the bus, built from the models' own field types."""

from __future__ import annotations

import string
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from protocol.link import BULK_FRAMES, LINKS, Vocabulary
from protocol.message import Message
from protocol.wire import Envelope

VOCABULARIES = {
    f"{link.name} {way}": vocabulary
    for link in LINKS.values()
    for way, vocabulary in (("up", link.up), ("down", link.down))
}
EVERY_MESSAGE = [(place, message) for place, vocabulary in VOCABULARIES.items() for message in vocabulary.messages]
COUNTERS = st.integers(0, (1 << 63) - 1)
MAP_SIZE_MOST = 8
SEQUENCE_SIZE_MOST = 6
TEXT_SIZE_MOST = 40

name_first = string.ascii_letters + string.digits
names = st.builds(
    str.__add__, st.sampled_from(name_first), st.text(alphabet=name_first + "_.:@-", max_size=62)
)  # fmt: skip
endpoints = st.builds(
    "{}://{}".format,
    st.sampled_from(["tcp", "ipc", "inproc"]),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30),
)


def message_strategy(model: type[Message]) -> st.SearchStrategy[Message]:
    """Valid instances of a message class."""
    return _model(model)


@cache
def envelopes(model: type[Message]) -> st.SearchStrategy[Envelope]:
    """A message with any place in a session and the frames its type has."""
    wanted = BULK_FRAMES.get(model, 0)
    frames = st.lists(st.binary(max_size=200), min_size=wanted, max_size=wanted).map(tuple)
    return st.builds(Envelope, message_strategy(model), COUNTERS, COUNTERS, COUNTERS, frames)


def any_envelope(vocabulary: Vocabulary) -> st.SearchStrategy[Envelope]:
    return st.sampled_from(vocabulary.messages).flatmap(envelopes)


@cache
def _model(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    fields = {name: _field(field) for name, field in model.model_fields.items() if name != "type"}
    return st.fixed_dictionaries(fields).map(lambda values: model(**values))


def _field(field: FieldInfo) -> st.SearchStrategy[Any]:
    # The base's constraints come with the annotation or, where pydantic has unpacked it, with the field.
    return _type(field.annotation, [*field.metadata])


def _type(kind: Any, limits: list[Any]) -> st.SearchStrategy[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        base, *more = get_args(kind)
        return _type(base, [*limits, *_unpacked(more)])
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if origin in (Union, UnionType):
        return st.one_of(*(_type(part, []) for part in get_args(kind)))
    if origin is tuple:
        item = _type(get_args(kind)[0], [])
        most = max(_limit(limits, MinLen, 0), min(_limit(limits, MaxLen, SEQUENCE_SIZE_MOST), SEQUENCE_SIZE_MOST))
        return st.lists(item, min_size=_limit(limits, MinLen, 0), max_size=most).map(tuple)
    if origin is dict:
        key, value = (_type(part, []) for part in get_args(kind))
        return st.dictionaries(key, value, max_size=min(_limit(limits, MaxLen, MAP_SIZE_MOST), 3))
    return _plain(kind, limits)


def _plain(kind: type, limits: list[Any]) -> st.SearchStrategy[Any]:
    if kind is NoneType:
        return st.none()
    if kind is bool:
        return st.booleans()
    if issubclass(kind, BaseModel):
        return _model(kind)
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if kind is int:
        return st.integers(_limit(limits, Ge, None), _limit(limits, Le, None))
    if kind is bytes:
        return st.binary(min_size=_limit(limits, MinLen, 0), max_size=_limit(limits, MaxLen, TEXT_SIZE_MOST))
    assert kind is str, f"no strategy for {kind}"
    return _text(limits)


def _text(limits: list[Any]) -> st.SearchStrategy[str]:
    patterns = [pattern for limit in limits if (pattern := getattr(limit, "pattern", None))]
    if patterns:
        return endpoints if "://" in patterns[0] else names
    characters = st.characters(codec="utf-8")
    return st.text(characters, max_size=min(TEXT_SIZE_MOST, _limit(limits, MaxLen, TEXT_SIZE_MOST)))


def _limit(limits: list[Any], kind: type, otherwise: Any) -> Any:
    attribute = {Ge: "ge", Le: "le", MinLen: "min_length", MaxLen: "max_length"}[kind]
    return next((getattr(limit, attribute) for limit in limits if isinstance(limit, kind)), otherwise)


def _unpacked(metadata: list[Any]) -> list[Any]:
    return [part for entry in metadata for part in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
