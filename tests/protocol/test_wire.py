"""The wire codec: what is encoded is decoded again, and nothing else is ever taken for a message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocol.fabric_messages import CONTEXT_PAGE, Contexts, ContextSummary
from protocol.hcall_messages import QueryConfiguration, Reconfigured
from protocol.link import BODY_LIMIT_BYTES, BULK_LIMIT_BYTES, DEVICE, FABRIC, HCALL, PASTE, Vocabulary
from protocol.message import Message
from protocol.paste_messages import Crb, Paste
from protocol.refusals import RefusalCode
from protocol.wire import Envelope, WireError, decode, encode, refuse
from tests.protocol.messages import EVERY_MESSAGE, VOCABULARIES, any_envelope, envelopes

U32_MAX = 0xFFFF_FFFF


def head(**changes: Any) -> dict[str, Any]:
    """Frame 0 of a valid message of the hcall link, before packing."""
    whole = {"v": 1, "type": "query_configuration", "epoch": 7, "number": 3, "acked": 2, "body": {"generation": 5}}
    return {**whole, **changes}


def refusal_of(frames: Sequence[bytes], vocabulary: Vocabulary = HCALL.up) -> WireError:
    with pytest.raises(WireError) as caught:
        decode(frames, vocabulary)
    return caught.value


def packed(**changes: Any) -> list[bytes]:
    return [msgpack.packb(head(**changes))]


@pytest.mark.parametrize(("place", "model"), EVERY_MESSAGE, ids=lambda part: getattr(part, "__name__", str(part)))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_message_of_every_link_comes_back_as_it_was_sent(
    data: st.DataObject, place: str, model: type[Message]
) -> None:
    envelope = data.draw(envelopes(model))
    assert decode(encode(envelope), VOCABULARIES[place]) == envelope


def test_the_head_carries_exactly_the_documented_keys() -> None:
    frames = encode(Envelope(QueryConfiguration(generation=5), epoch=7, number=3, acked_below=2))
    assert [msgpack.unpackb(frame) for frame in frames] == [head()]


# One refusal code after the other.


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        msgpack.packb(head())[:-1],
        msgpack.packb(head()) + b"\x00",
        msgpack.packb([1, 2]),
        msgpack.packb(None),
        msgpack.packb({}),
        msgpack.packb({key: value for key, value in head().items() if key != "acked"}),
        msgpack.packb(head(extra=1)),
        msgpack.packb({1: 2}),
        msgpack.packb(head(epoch=-1)),
        msgpack.packb(head(epoch=1 << 63)),
        msgpack.packb(head(number=True)),
        msgpack.packb(head(acked=1.0)),
        msgpack.packb(head(number=math.nan)),
        msgpack.packb(head(body=[])),
        msgpack.packb(head(body={b"generation": 5})),
        msgpack.packb(head(body={3: 5})),
    ],
)
def test_what_is_no_envelope_is_garbage(frame: bytes) -> None:
    assert refusal_of([frame]).refusal.code is RefusalCode.GARBAGE


@pytest.mark.parametrize("version", [0, 2, -1, 1.0, True, "1", None, math.nan, [1], (1 << 64) - 1])
def test_only_the_whole_number_one_is_this_version(version: object) -> None:
    error = refusal_of(packed(v=version))
    assert error.refusal.code is RefusalCode.VERSION
    assert error.refusal.expected == "version 1"


@pytest.mark.parametrize("kind", ["window_allocated", "paste", "", "query_configuration ", None, 3, ["hello"], {}])
def test_a_type_of_another_link_or_direction_is_unknown_and_the_known_ones_are_listed(kind: object) -> None:
    error = refusal_of(packed(type=kind))
    assert error.refusal.code is RefusalCode.UNKNOWN_TYPE
    assert "query_configuration" in error.refusal.expected
    assert (error.epoch, error.number) == (7, 3)


@pytest.mark.parametrize(
    ("kind", "body", "field", "came"),
    [
        ("query_configuration", {}, "generation", "nothing"),
        ("query_configuration", {"generation": -1}, "generation", "-1"),
        ("query_configuration", {"generation": "5"}, "generation", "'5'"),
        ("query_configuration", {"generation": 5.0}, "generation", "5.0"),
        ("query_configuration", {"generation": True}, "generation", "True"),
        ("query_configuration", {"generation": math.nan}, "generation", "nan"),
        ("query_configuration", {"generation": 5, "colour": 1}, "colour", "1"),
        ("query_configuration", {"generation": 5, "type": "beat"}, "type", "one"),
        ("reconfigured", {"generation": 1, "accepted": True, "closed": [1, 2, "x"]}, "closed.2", "'x'"),
        ("reconfigured", {"generation": 1, "accepted": 1}, "accepted", "1"),
        ("h_allocate_vas_window", {"window_type": 0, "credits": 1, "domain": [0] * 5}, "domain", "[0, 0, 0, 0, 0]"),
        ("h_allocate_vas_window", {"window_type": 0, "credits": 1, "domain": [0] * 5 + [-1]}, "domain.5", "-1"),
        ("h_allocate_vas_window", {"window_type": 0, "credits": 70_000, "domain": [0] * 6}, "credits", "70000"),
        ("hello", {"role": "lpar", "name": "-x", "incarnation": b"0" * 16}, "name", "'-x'"),
        ("hello", {"role": "lpar", "name": "x\n", "incarnation": b"0" * 16}, "name", "'x\\n'"),
        ("hello", {"role": "lpar", "name": "x", "incarnation": b"short"}, "incarnation", "b'short'"),
    ],
)
def test_a_bad_body_is_refused_with_the_name_of_the_field_and_what_came(
    kind: str, body: dict[str, Any], field: str, came: str
) -> None:
    error = refusal_of(packed(type=kind, body=body))
    assert error.refusal.code is RefusalCode.BODY
    assert error.refusal.expected.startswith(f"{kind}: {field}: ") or f"'{field}'" in error.refusal.expected
    assert error.refusal.came == came
    assert (error.epoch, error.number) == (7, 3)


def test_a_field_that_is_named_like_its_message_is_named_all_the_same() -> None:
    summary = {"window_id": 1, "token": b"short", "process_id": 1}
    error = refusal_of(packed(type="contexts", body={"contexts": [summary]}), FABRIC.up)
    assert error.refusal.expected.startswith("contexts: contexts.0.token: ")


@pytest.mark.parametrize("bulk", [[], [b"", b""], [b""] * 50])
def test_a_paste_has_exactly_one_frame_of_bytes(bulk: list[bytes]) -> None:
    paste = Paste(window_id=1, token=b"t" * 16, number=1, crb=Crb(function=0, target_bytes=10))
    error = refusal_of([encode(Envelope(paste))[0], *bulk], PASTE.up)
    assert error.refusal.code is RefusalCode.FRAMES
    assert (error.refusal.expected, error.refusal.came) == ("2 frames", str(1 + len(bulk)))


def test_no_frame_at_all_is_refused() -> None:
    assert refusal_of([]).refusal.code is RefusalCode.FRAMES


def test_a_frame_too_many_is_refused_for_messages_without_bytes() -> None:
    assert refusal_of([*packed(), b""]).refusal.code is RefusalCode.FRAMES


def test_a_frame_of_bytes_may_reach_its_limit_and_not_pass_it() -> None:
    paste = Paste(window_id=1, token=b"t" * 16, number=1, crb=Crb(function=0, target_bytes=10))
    at_limit = encode(Envelope(paste, frames=(bytes(BULK_LIMIT_BYTES),)))
    assert len(decode(at_limit, PASTE.up).frames[0]) == BULK_LIMIT_BYTES
    error = refusal_of([at_limit[0], bytes(BULK_LIMIT_BYTES + 1)], PASTE.up)
    assert error.refusal.code is RefusalCode.FRAME_SIZE


def test_frame_zero_may_not_pass_its_limit() -> None:
    error = refusal_of([bytes(BODY_LIMIT_BYTES + 1)])
    assert error.refusal.code is RefusalCode.FRAME_SIZE
    assert (error.epoch, error.number) == (0, 0)


def test_a_page_of_contexts_fits() -> None:
    row = ContextSummary(window_id=U32_MAX, token=b"t" * 16, process_id=(1 << 64) - 1)
    page = Contexts(contexts=(row,) * CONTEXT_PAGE, more=True)
    assert len(encode(Envelope(page))[0]) <= BODY_LIMIT_BYTES


def test_the_largest_report_of_a_reconfiguration_fits() -> None:
    ids = (U32_MAX,) * 0xFFFF
    report = Reconfigured(generation=1, accepted=True, error="\U0001f4a5" * 65_536, closed=ids, reopened=ids)
    assert len(encode(Envelope(report))[0]) <= BODY_LIMIT_BYTES


def test_a_refused_reply_bears_no_number_because_that_would_settle_a_request_of_its_sender() -> None:
    error = refusal_of(packed(type="context_closed", body={}), FABRIC.up)
    assert error.refusal.code is RefusalCode.BODY
    assert (error.epoch, error.number) == (7, 0)
    error = refusal_of([*packed(type="unit_ready", body={}), b""], FABRIC.up)
    assert error.number == 3


def test_texts_of_a_refusal_are_cut_so_that_it_always_fits_into_a_message() -> None:
    refusal = refuse(RefusalCode.BODY, "e" * 10_000, "c" * 10_000)
    assert (len(refusal.expected), len(refusal.came)) == (500, 500)
    assert refusal.advice == RefusalCode.BODY.advice


# Whatever comes: a message or a WireError, and the refusal itself can be sent.


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
