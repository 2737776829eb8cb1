"""Whatever bytes come: a message or a WireError, and the refusal itself can be sent."""

from __future__ import annotations

from collections.abc import Sequence

import msgpack
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocol.hcall_messages import QueryConfiguration
from protocol.link import BODY_LIMIT_BYTES, DEVICE, HCALL, Vocabulary
from protocol.refusals import RefusalCode
from protocol.wire import Envelope, WireError, decode, encode
from tests.protocol.messages import VOCABULARIES, any_envelope
from tests.protocol.test_wire import head, refusal_of


def take(frames: Sequence[bytes], vocabulary: Vocabulary) -> None:
    """Decode; anything but a message or a WireError fails the test."""
    try:
        envelope = decode(frames, vocabulary)
    except WireError as error:
        answer = Envelope(error.refusal, error.epoch, error.number)
    else:
        assert type(envelope.body) in vocabulary.messages
        return
    assert decode(encode(answer), HCALL.down) == answer


vocabularies = st.sampled_from(list(VOCABULARIES.values()))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 10**9 - 1))
)
packable = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.binary(max_size=2), inner),
    max_leaves=8,
)


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=3), vocabularies)
def test_random_bytes_never_raise_anything_but_a_wire_error(frames: list[bytes], vocabulary: Vocabulary) -> None:
    take(frames, vocabulary)


@settings(max_examples=1000, deadline=None)
@given(data=st.data(), vocabulary=vocabularies)
def test_a_valid_message_with_bytes_changed_never_raises_anything_but_a_wire_error(
    data: st.DataObject, vocabulary: Vocabulary
) -> None:
    frames = encode(data.draw(any_envelope(vocabulary)))
    mutated = bytearray(frames[0])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert", "truncate"]))
        if change == "set":
            mutated[place] = data.draw(st.integers(0, 255))
        elif change == "insert":
            mutated[place:place] = data.draw(st.binary(max_size=6))
        elif change == "cut" and len(mutated) > 1:
            del mutated[place]
        elif change == "truncate":
            del mutated[max(1, place) :]
    take([bytes(mutated), *frames[1:]], vocabulary)


@settings(max_examples=1000, deadline=None)
@given(data=st.data(), vocabulary=vocabularies)
def test_a_valid_message_with_values_changed_never_raises_anything_but_a_wire_error(
    data: st.DataObject, vocabulary: Vocabulary
) -> None:
    frames = encode(data.draw(any_envelope(vocabulary)))
    whole = msgpack.unpackb(frames[0])
    target = data.draw(st.sampled_from([whole, whole["body"]]))
    assume(target)
    target[data.draw(st.sampled_from(sorted(target)) | st.text(max_size=3))] = data.draw(packable)
    take([msgpack.packb(whole), *frames[1:]], vocabulary)


NESTED_DEEPEST = 400_000


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1k", b"\xdc\x00\x01", b"\xde\x00\x01\xa1k"])
@pytest.mark.parametrize("depth", [10, 500, 511, 512, 513, 1_000, NESTED_DEEPEST])
def test_nesting_of_any_depth_is_refused(opening: bytes, depth: int) -> None:
    nested = opening * depth + b"\x00"
    take([nested[:BODY_LIMIT_BYTES]], HCALL.up)
    start = msgpack.packb(head(body={}))[: -len(msgpack.packb({}))]
    take([(start + b"\x81\xaageneration" + nested)[:BODY_LIMIT_BYTES]], HCALL.up)


@pytest.mark.parametrize(
    "value",
    [
        b"\xa2\xff\xfe",  # text that is no UTF-8
        b"\xa3\xed\xa0\x80",  # a lone surrogate
        b"\xd6\xff\x00\x00\x00\x00",  # a 32-bit timestamp
        b"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff",  # a 64-bit timestamp with too many nanoseconds
        b"\xc7\x0c\xff" + b"\xff" * 12,  # a 96-bit timestamp with too many nanoseconds
        b"\xc7\x05\xff" + b"\x00" * 5,  # a timestamp of a length that does not exist
        b"\xd4\x05\x00",  # an extension type
        b"\xc7\x00\x00",  # an empty extension type
        b"\xd3\x80" + b"\x00" * 7,  # -2^63
        b"\xcb\x7f\xf8" + b"\x00" * 6,  # not a number
        b"\xcb\x7f\xf0" + b"\x00" * 6,  # infinity
        b"\xdd\xff\xff\xff\xff",  # an array that claims 2^32 - 1 items
        b"\xdf\xff\xff\xff\xff",  # a map that claims as many
        b"\xc6\xff\xff\xff\xff",  # bytes that claim 4 GiB
        b"\xc1",  # the byte that msgpack never uses
    ],
)
def test_values_that_msgpack_can_hold_and_messages_cannot_are_refused(value: bytes) -> None:
    start = msgpack.packb(head(body={}))[: -len(msgpack.packb({}))]
    assert refusal_of([start + b"\x81\xaageneration" + value]).refusal.code in (RefusalCode.GARBAGE, RefusalCode.BODY)
    assert refusal_of([value]).refusal.code is RefusalCode.GARBAGE
    for key in ("v", "type", "epoch", "number", "acked", "body"):
        frame = msgpack.packb(head(**{key: "\x00placeholder"})).replace(msgpack.packb("\x00placeholder"), value)
        take([frame], HCALL.up)
        assert refusal_of([frame]) is not None


def test_the_same_key_twice_is_decided_by_the_last_one_as_msgpack_does() -> None:
    body = b"\x82" + (msgpack.packb("generation") + b"\x05") + (msgpack.packb("generation") + b"\x06")
    start = msgpack.packb(head(body={}))[: -len(msgpack.packb({}))]
    assert decode([start + body], HCALL.up).body == QueryConfiguration(generation=6)


def test_a_wide_map_as_head_is_described_in_a_short_text() -> None:
    frame = msgpack.packb({f"key{number}": number for number in range(50_000)})
    assert len(refusal_of([frame], DEVICE.up).refusal.came) == 500
