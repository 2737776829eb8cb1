"""The wire codec: what is encoded is decoded again, and nothing else is ever taken for a message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.fabric_messages import CONTEXT_PAGE, Contexts, ContextSummary
from protocol.hcall_messages import QueryConfiguration, Reconfigured
from protocol.link import BODY_LIMIT_BYTES, BULK_LIMIT_BYTES, FABRIC, HCALL, PASTE, Vocabulary
from protocol.message import Message
from protocol.paste_messages import Crb, Paste
from protocol.refusals import RefusalCode
from protocol.wire import Envelope, WireError, decode, encode, refuse
from tests.protocol.messages import EVERY_MESSAGE, VOCABULARIES, envelopes

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


@pytest.mark.parametrize("value", ["1", True, 1.0, b"1", None])
def test_a_code_is_a_whole_number_and_nothing_that_merely_equals_one(value: object) -> None:
    body = {
        "window_id": 1,
        "lpar": "lp1",
        "credit_type": value,
        "window_credits": 1,
        "process_id": 1,
        "token": bytes(16),
    }
    head = {"v": 1, "type": "program_context", "epoch": 1, "number": 1, "acked": 1, "body": body}
    error = refusal_of([msgpack.packb(head)], FABRIC.down)
    assert error.refusal.code is RefusalCode.BODY
    assert "credit_type" in error.refusal.expected
