"""The worked trace of `docs/protocol.md`: what a client and a running cluster said to each other.

`python -m vasbus.reference_trace [FOLDER]` starts a cluster, records a session and writes it into the page.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgpack

from deploy.cluster import ClusterFolder
from deploy.launcher import down, up
from lpar.client import Lpar, Request
from protocol.codes import FunctionCode
from protocol.session_messages import Probe
from protocol.wire import Envelope, encode
from vasbus.reference_pages import WIRE_PAGE, fill
from vasbus.reference_schema import Schema, as_json

TRACE_BLOCK = "trace"
SOURCE = bytes.fromhex("cb48cdc9c90700")
"""`hello` as raw deflate: every decompressor makes the same of it."""
PLAIN = {
    "incarnation": "11" * 16, "secret": "22" * 16, "token": "33" * 16, "epoch": 7, "pid": 4242, "thread_id": 4242,
    "window_id": 5, "address": 0x10_0000, "source_address": 0x1_0000_0000, "target_address": 0x2_0000_0000,
    "csb_address": 0x3_0000_00F0, "local": "ipc:///run/vasbus/nx0.paste", "probe_ms": 1000, "lease_ms": 5000,
}  # fmt: skip
"""What differs from run to run, or is a setting, and what the page shows instead."""
SHOWN_AS_BYTES = "open_device"
CLIENT_NAME = "example"
SYSTEM = Path(__file__).parents[1] / "deploy" / "system.toml"


class Recorder:
    """Takes every message down, a repeat once and probes not at all."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, Envelope]] = []

    def __call__(self, direction: str, key: str, envelope: Envelope) -> None:
        entry = (direction, key.partition(":")[0], envelope)
        seen = {(way, link, other.body.type, other.number) for way, link, other in self.messages}
        if not isinstance(envelope.body, Probe) and (*entry[:2], envelope.body.type, envelope.number) not in seen:
            self.messages.append(entry)


def record(device: str) -> list[tuple[str, str, Envelope]]:
    """One window, one request, and back: (sent or received, link, message) in order."""
    recorder = Recorder()
    with Lpar(device, name=CLIENT_NAME, on_message=recorder) as lpar:
        descriptor = lpar.open_device()
        descriptor.tx_win_open()
        area = descriptor.mmap()
        area.paste(Request(FunctionCode.DECOMPRESS, SOURCE, target_bytes=64)).wait(10)
        area.unmap()
        descriptor.close()
    return recorder.messages


def plain(value: Any) -> Any:
    """A message as JSON, with the values of PLAIN where a run has its own; 0 and nothing stay what they are."""
    if not isinstance(value, dict):
        return value
    shown: Schema = {}
    for key, item in value.items():
        varies = key in PLAIN and not isinstance(item, dict) and bool(item)
        shown[key] = PLAIN[key] if varies else plain(item)
    return shown


def trace(messages: list[tuple[str, str, Envelope]]) -> str:
    """The trace as the page shows it: one message a line, its further frame below."""
    lines = ["```text"]
    for direction, link, envelope in messages:
        head = plain(as_json(msgpack.unpackb(encode(envelope)[0])))
        arrow = ">" if direction == "sent" else "<"
        lines.append(f"{link:6} {arrow} {json.dumps(head)}")
        if head["type"] == SHOWN_AS_BYTES:
            lines.append(f"       {arrow} frame 0 as bytes: {msgpack.packb(head).hex()}")
        lines += [f"       {arrow} {len(frame)} bytes: {frame.hex()}" for frame in envelope.frames]
    return "\n".join([*lines, "```"])


def write(docs: Path) -> None:
    """Record a session on a cluster of its own and put it into the page."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = ClusterFolder(Path(folder) / "cluster")
        try:
            up(cluster, SYSTEM, lambda _text: None)
            messages = record(cluster.addresses().device["lp1"])
        finally:
            down(cluster, lambda _text: None, keep_ledger=False)
    page = docs / WIRE_PAGE
    page.write_text(fill(page.read_text(), TRACE_BLOCK, trace(messages)))


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
