"""The wire codec. Frame 0 is a msgpack map; source and target bytes ride in further frames, never inside msgpack.

Keys of frame 0: `v` version, `type`, `epoch`, `number`, `acked` (every number below it has been answered), `body`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

import msgpack
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from protocol.link import BODY_LIMIT_BYTES, BULK_FRAMES, BULK_LIMIT_BYTES, Vocabulary
from protocol.message import Message
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused

WIRE_VERSION = 1
ENVELOPE_KEYS = frozenset(("v", "type", "epoch", "number", "acked", "body"))
_COUNTERS = ("epoch", "number", "acked")
_COUNTER_LIMIT = 1 << 63
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 60, 60


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message with its place in a session; `number` is 0 for notices and session messages."""

    body: Message
    epoch: int = 0
    number: int = 0
    acked_below: int = 0
    frames: tuple[bytes, ...] = ()


class WireError(Exception):
    """Bytes that are no message of this link. `refusal` is the answer; `number` that of the request, if readable.

    A refused reply has number 0: it bears the other direction's number, which would settle a request of its sender.
    """

    def __init__(self, code: RefusalCode, expected: str, came: str, epoch: int = 0, number: int = 0) -> None:
        super().__init__(f"{code}: expected {expected}, came {came}")
        self.refusal = refuse(code, expected, came)
        self.epoch = epoch
        self.number = number


def refuse(code: RefusalCode, expected: str, came: str, after_ms: int = 0) -> Refused:
    """A refusal with the advice of the error table; the texts are cut to 500 characters."""
    return Refused(code=code, expected=expected[:500], came=came[:500], advice=code.advice, after_ms=after_ms)


def _short(value: object) -> str:
    """What came, in a few words. A plain repr would recurse as deep as a hostile message is nested."""
    return _SHORT.repr(value)[:80]


def _plain(part: object) -> object:
    if isinstance(part, BaseModel):
        return part.__dict__
    raise TypeError(f"{type(part).__name__} does not go into a message")


def encode(envelope: Envelope) -> list[bytes]:
    """The frames of a message. Nothing is checked: the body was validated when it was made."""
    fields = dict(envelope.body.__dict__)
    head = {
        "v": WIRE_VERSION,
        "type": fields.pop("type"),
        "epoch": envelope.epoch,
        "number": envelope.number,
        "acked": envelope.acked_below,
        "body": fields,
    }
    return [msgpack.packb(head, default=_plain), *envelope.frames]


def decode(frames: Sequence[bytes], vocabulary: Vocabulary) -> Envelope:
    """Frames to a message of `vocabulary`.

    Raises WireError for anything else; no input raises another exception.
    """
    if not frames:
        raise WireError(RefusalCode.FRAMES, "at least one frame", "none")
    head = _unpack_head(frames[0])
    kind, body = head["type"], head["body"]
    if not isinstance(kind, str) or kind not in vocabulary.names:
        raise WireError(
            RefusalCode.UNKNOWN_TYPE,
            f"one of {', '.join(sorted(vocabulary.names))}",
            _short(kind),
            head["epoch"],
            head["number"],
        )
    epoch, number = head["epoch"], 0 if kind in vocabulary.replies else head["number"]
    if "type" in body:
        expected = "no field 'type' in the body: it stands in the envelope"
        raise WireError(RefusalCode.BODY, expected, "one", epoch, number)
    try:
        message = vocabulary.adapter.validate_python({"type": kind, **body})
    except ValidationError as error:
        expected, came = _describe(error, tagged=len(vocabulary.messages) > 1)
        raise WireError(RefusalCode.BODY, f"{kind}: {expected}", came, epoch, number) from None
    bulk = tuple(frames[1:])
    _check_bulk(message, bulk, epoch, number)
    return Envelope(message, epoch, head["number"], head["acked"], bulk)


def _unpack_head(frame: bytes) -> dict[str, Any]:
    if len(frame) > BODY_LIMIT_BYTES:
        raise WireError(RefusalCode.FRAME_SIZE, f"frame 0 of at most {BODY_LIMIT_BYTES} bytes", f"{len(frame)} bytes")
    try:
        head = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise WireError(RefusalCode.GARBAGE, "a msgpack map", f"{type(error).__name__} in {len(frame)} bytes") from None
    if not isinstance(head, dict) or head.keys() != ENVELOPE_KEYS:
        came = sorted(map(str, head)) if isinstance(head, dict) else type(head).__name__
        raise WireError(RefusalCode.GARBAGE, f"a map with the keys {sorted(ENVELOPE_KEYS)}", str(came))
    if type(head["v"]) is not int or head["v"] != WIRE_VERSION:
        raise WireError(RefusalCode.VERSION, f"version {WIRE_VERSION}", _short(head["v"]))
    for key in _COUNTERS:
        value = head[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _COUNTER_LIMIT:
            raise WireError(RefusalCode.GARBAGE, f"'{key}' as a whole number from 0 to 2^63-1", _short(value))
    if not isinstance(head["body"], dict) or not all(isinstance(key, str) for key in head["body"]):
        raise WireError(RefusalCode.GARBAGE, "'body' as a map with text keys", type(head["body"]).__name__)
    return head


def most_telling(complaints: list[ErrorDetails]) -> ErrorDetails:
    """The complaint to pass on: a misspelt key before a missing one, and the item before the sequence around it.

    pydantic also complains of a sequence that it is too short without its bad items.
    """
    around = {complaint["loc"][:depth] for complaint in complaints for depth in range(len(complaint["loc"]))}
    inner = (complaint for complaint in complaints if complaint["loc"] not in around)
    return min(inner, key=lambda complaint: complaint["type"] == "missing")


def _describe(error: ValidationError, *, tagged: bool) -> tuple[str, str]:
    """The most telling complaint of pydantic as (what was expected where, what came).

    Where the vocabulary is a tagged union, the first step of the complaint's place is the tag.
    """
    complaint = most_telling(error.errors(include_url=False, include_context=False))
    steps = complaint["loc"][1:] if tagged else complaint["loc"]
    place = ".".join(map(str, steps)) or "body"
    came = "nothing" if complaint["type"] == "missing" else _short(complaint["input"])
    return f"{place}: {complaint['msg']}", came


def _check_bulk(message: Message, bulk: tuple[bytes, ...], epoch: int, number: int) -> None:
    wanted = BULK_FRAMES.get(type(message), 0)
    if len(bulk) != wanted:
        raise WireError(RefusalCode.FRAMES, f"{1 + wanted} frames", f"{1 + len(bulk)}", epoch, number)
    for frame in bulk:
        if len(frame) > BULK_LIMIT_BYTES:
            raise WireError(
                RefusalCode.FRAME_SIZE, f"at most {BULK_LIMIT_BYTES} bytes", f"{len(frame)} bytes", epoch, number
            )
