"""Enums whose members carry their meaning: the bases of every table of codes."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function


def _exactly(kind: type) -> Callable[[object], object]:
    """A check that a message's field is what msgpack makes of the code, and nothing that merely equals it."""

    def check(value: object) -> object:
        if type(value) is not kind and not isinstance(value, Enum):
            raise ValueError(f"expected {kind.__name__}")
        return value

    return check


class ExplainedCode(IntEnum):
    """An integer code that carries its meaning, so that a table row is written once."""

    meaning: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(_exactly(int), handler(source))

    def __new__(cls, value: int, meaning: str = "") -> ExplainedCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class ExplainedName(StrEnum):
    """A word from a closed list that carries its meaning."""

    meaning: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(_exactly(str), handler(source))

    def __new__(cls, value: str, meaning: str = "") -> ExplainedName:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member
