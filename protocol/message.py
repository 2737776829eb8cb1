"""The base of every message and the field types they share. Byte counts are bytes, times are in the unit named."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A frozen value inside a message. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Message(Part):
    """A message body. Subclasses declare `type: Literal["name"] = "name"`, which picks them on the wire."""

    type: str


class Request(Message):
    """A message that is numbered within its session and answered exactly once in effect."""


class Reply(Message):
    """The answer to a request; the envelope bears the request's number."""


class Notice(Message):
    """A message without a number: it may be lost, and nothing may depend on its arrival."""


def _whole(minimum: int, maximum: int) -> object:
    return Field(strict=True, ge=minimum, le=maximum)


U8 = Annotated[int, _whole(0, 0xFF)]
U16 = Annotated[int, _whole(0, 0xFFFF)]
U32 = Annotated[int, _whole(0, 0xFFFF_FFFF)]
U64 = Annotated[int, _whole(0, 0xFFFF_FFFF_FFFF_FFFF)]
I32 = Annotated[int, _whole(-0x8000_0000, 0x7FFF_FFFF)]
I64 = Annotated[int, _whole(-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF)]
Flag = Annotated[bool, Field(strict=True)]
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,62}$"
Name = Annotated[str, Field(strict=True, pattern=NAME_PATTERN)]
"""The name of a process, a partition, a unit or a network."""
NAME_RULE = "letters, digits and _ . : @ -, at most 63, beginning with a letter or digit"
"""What the pattern of a name says, for people."""


def is_name(text: str) -> bool:
    """Whether it can be the name of something."""
    return re.fullmatch(NAME_PATTERN.rstrip("$"), text) is not None


Text = Annotated[str, Field(strict=True, max_length=65_536)]
Endpoint = Annotated[str, Field(strict=True, pattern=r"^(tcp|ipc|inproc)://.{1,200}$")]
Endpoints = Annotated[dict[Name, Endpoint], Field(max_length=8)]
"""One endpoint per named network; the network of a local cluster is `local`."""
Nonce = Annotated[bytes, Field(strict=True, min_length=16, max_length=16)]
Secret = Annotated[bytes, Field(strict=True, max_length=32)]
Token = Annotated[bytes, Field(strict=True, min_length=16, max_length=16)]
LOCAL_NETWORK = "local"


class PasteAddress(Part):
    """Where a window's pastes go: the unit's endpoints by network, the window and its unguessable token.

    `address` is the number a kernel would see as the window's logical real paste address.
    """

    address: U64
    unit: Name
    endpoints: Endpoints
    window_id: U32
    token: Token
