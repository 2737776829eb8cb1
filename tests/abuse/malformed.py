"""Messages with one thing wrong, for every link: what names the fault, and words of what was expected."""

from __future__ import annotations

from typing import Any

from protocol.link import BODY_LIMIT_BYTES
from protocol.refusals import RefusalCode
from tests.abuse.attacker import frame

NOBODY = bytes(16)
QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "hcall": ("query_configuration", {"generation": 0}),
    "fabric": ("unit_ready", {"window_limit": 1, "fifo_depth": 1, "request_limit_bytes": 4096}),
    "hmc": ("hold_notifications", {"lpar": "lp1", "hold": False}),
    "device": ("close_descriptor", {"descriptor": 0}),
    "paste": (
        "paste", {"window_id": 1, "token": NOBODY, "number": 1, "crb": {"function": 0, "target_bytes": 100}},
    ),
}  # fmt: skip
"""One valid message with a field for each link."""


def malformed(link: str, fault: str) -> tuple[list[bytes], RefusalCode, str]:
    """Frames with one thing wrong, the code that names it and words of what was expected."""
    kind, body = QUERIES[link]
    field = next(iter(body))
    bulk = [b""] if link == "paste" else []
    cases = {
        "no frame 0": ([b""], RefusalCode.GARBAGE, "a msgpack map"),
        "garbage": ([b"\xc1\xff\x00"], RefusalCode.GARBAGE, "a msgpack map"),
        "nested": ([b"\x91" * 10_000], RefusalCode.GARBAGE, "a msgpack map"),
        "not an envelope": ([b"\x80"], RefusalCode.GARBAGE, "a map with the keys"),
        "wrong version": ([frame(kind, body, v=2), *bulk], RefusalCode.VERSION, "version 1"),
        "version as text": ([frame(kind, body, v="1"), *bulk], RefusalCode.VERSION, "version 1"),
        "negative epoch": ([frame(kind, body, epoch=-1), *bulk], RefusalCode.GARBAGE, "'epoch' as a whole number"),
        "huge number": ([frame(kind, body, number=1 << 63), *bulk], RefusalCode.GARBAGE, "'number' as a whole"),
        "negative acked": ([frame(kind, body, acked=-1), *bulk], RefusalCode.GARBAGE, "'acked' as a whole number"),
        "body of text": ([frame(kind, "body"), *bulk], RefusalCode.GARBAGE, "'body' as a map"),
        "unknown type": ([frame("open_sesame", body), *bulk], RefusalCode.UNKNOWN_TYPE, kind),
        "the other way": ([frame("refused_welcome", {})], RefusalCode.UNKNOWN_TYPE, kind),
        "missing field": (
            [frame(kind, {key: body[key] for key in list(body)[1:]}), *bulk], RefusalCode.BODY, f"{kind}: {field}: ",
        ),
        "extra field": ([frame(kind, {**body, "colour": 1}), *bulk], RefusalCode.BODY, f"{kind}: colour: "),
        "wrong type of field": ([frame(kind, {**body, field: 1.5}), *bulk], RefusalCode.BODY, f"{kind}: {field}: "),
        "negative field": ([frame(kind, {**body, field: -1}), *bulk], RefusalCode.BODY, f"{kind}: {field}: "),
        "huge field": ([frame(kind, {**body, field: (1 << 64) - 1}), *bulk], RefusalCode.BODY, f"{kind}: {field}: "),
        "type in the body": ([frame(kind, {**body, "type": kind}), *bulk], RefusalCode.BODY, "no field 'type'"),
        "a frame too many": ([frame(kind, body), *bulk, b"x"], RefusalCode.FRAMES, f"{1 + len(bulk)} frames"),
        "oversized": ([bytes(BODY_LIMIT_BYTES + 1)], RefusalCode.FRAME_SIZE, f"at most {BODY_LIMIT_BYTES} bytes"),
    }  # fmt: skip
    return cases[fault]


FAULTS = (
    "no frame 0", "garbage", "nested", "not an envelope", "wrong version", "version as text", "negative epoch",
    "huge number", "negative acked", "body of text", "unknown type", "the other way", "missing field", "extra field",
    "wrong type of field", "negative field", "huge field", "type in the body", "a frame too many", "oversized",
)  # fmt: skip
