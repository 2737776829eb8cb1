"""compress_file.py with nothing but pyzmq and msgpack, as docs/protocol.md has it: DEVICE INPUT OUTPUT."""

import os
import sys
import zlib
from time import monotonic, monotonic_ns, sleep
from typing import Any

import msgpack
import zmq

REPEAT_S, SILENCE_S, PATIENCE_S, DEADLINE_S = 0.5, 3.0, 1.0, 30.0
LIMIT_FILE = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps/req_max_processed_len"
COMPRESS_DHT, OK, SUSPENDED, TPBC_GREATER = 2, 0, 3, 64
GZIP_HEADER, EMPTY_LAST_BLOCK = b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x03\0"
CONTEXT = zmq.Context()
Body = dict[str, Any]


class Connection:
    """A DEALER that repeats what is not answered, and dials anew where nothing at all is heard."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint, self.socket, self.epoch = endpoint, CONTEXT.socket(zmq.DEALER), 0
        self.dial()

    def dial(self) -> None:
        self.socket.close(linger=0)
        self.socket, self.heard = CONTEXT.socket(zmq.DEALER), monotonic()
        self.socket.connect(self.endpoint)

    def ask(self, kind: str, body: Body, number: int = 0, *bulk: bytes) -> tuple[str, Body, list[bytes]]:
        """Type, body and further frames of the answer. Exits where the answer is no, or none comes."""
        accepted, until = False, monotonic() + DEADLINE_S
        while monotonic() < until:
            head = {"v": 1, "type": kind, "epoch": self.epoch, "number": number, "acked": number, "body": body}
            self.socket.send_multipart([msgpack.packb(head), *bulk])
            repeat = monotonic() + REPEAT_S
            while (left_s := repeat - monotonic()) > 0 and self.socket.poll(int(left_s * 1000) + 1):
                frame, *frames = self.socket.recv_multipart()
                came, self.heard = msgpack.unpackb(frame), monotonic()
                answer, fields = came["type"], came["body"]
                if answer == "refused" and number and fields["code"] in ("no_session", "epoch"):
                    self.heard = repeat = 0.0  # this connection is not known (any more): dial
                elif answer == "refused" and fields["code"] in ("retry", "in_use", "sessions_full", "draining"):
                    repeat = monotonic() + fields["after_ms"] / 1000
                elif answer in ("refused", "os_failure") and kind != "bye":  # a BYE of before has ended the session
                    sys.exit(f"{kind}: {fields}")
                elif number in (came["number"], fields.get("number")) if number else answer != "probe":
                    accepted = accepted or answer == "paste_accepted"
                    if not accepted or answer in ("paste_completed", "paste_faulted"):
                        return answer, fields, frames
            if monotonic() > self.heard + SILENCE_S and number:
                self.dial()
        sys.exit(f"{kind}: no answer from {self.endpoint} within {DEADLINE_S:g} s")


class Device(Connection):
    """A process on a partition, one system call at a time. With epoch and secret it comes back on a new connection."""

    incarnation, secret, number, units = os.urandom(16), b"", 0, dict[str, Connection]()

    def dial(self) -> None:
        super().dial()
        hello: Body = {"role": "client", "name": f"wire-{self.incarnation.hex()}", "incarnation": self.incarnation}
        hello |= {"epoch": self.epoch, "secret": self.secret, "pid": os.getpid()}
        _answer, welcome, _frames = self.ask("hello", hello)
        self.epoch, self.secret = welcome["epoch"], welcome["secret"]

    def call(self, kind: str, **body: object) -> Body:
        self.number += 1
        return self.ask(kind, body, self.number)[1]


def compress(device: Device, page: Body, source: bytes) -> tuple[bytes, int, str]:
    """A gzip member, how much of the source is in it, and who made it: the NX, or zlib for a reason."""
    crb = {"function": COMPRESS_DHT, "target_bytes": len(source) + len(source) // 4 + 4096}
    until, reason = monotonic() + PATIENCE_S, ""
    while not reason:
        address, number = page["address"], monotonic_ns()  # a number that rises
        paste = {"window_id": address["window_id"], "token": address["token"], "number": number, "crb": crb}
        endpoint = address["endpoints"]["local"]
        unit = device.units.get(endpoint) or device.units.setdefault(endpoint, Connection(endpoint))
        answer, fields, frames = unit.ask("paste", paste, number, source)
        if answer == "paste_completed" and (csb := fields["csb"])["code"] in (OK, SUSPENDED, TPBC_GREATER):
            done = csb["processed_bytes"]  # all of it, unless other work had the unit suspend this request
            trailer = csb["crc32"].to_bytes(4, "little") + done.to_bytes(4, "little")
            return GZIP_HEADER + frames[0] + (EMPTY_LAST_BLOCK if done < len(source) else b"") + trailer, done, "nx"
        if answer == "paste_faulted":
            handled = device.call("fault", mapping=page["mapping"], instruction="paste")
            page["address"] = handled["address"] or address
            reason = "" if handled["outcome"] == "remapped" else "window_suspended"
        else:
            reason = "paste_busy" if monotonic() > until else "data" if answer == "paste_completed" else ""
        sleep(0.001)
    return zlib.compress(source, wbits=31), len(source), f"zlib ({reason})"


def main(endpoint: str, source: str, target: str) -> None:
    device, rest = Device(endpoint), b""
    part_bytes = int(device.call("read_file", path=LIMIT_FILE)["text"])
    descriptor = device.call("open_device")["descriptor"]
    device.call("tx_win_open", descriptor=descriptor)
    page = device.call("mmap", descriptor=descriptor)
    print("window open", flush=True)
    with open(source, "rb") as file, open(target, "wb") as output:
        while part := rest or file.read(part_bytes):
            member, done, by = compress(device, page, part)
            output.write(member)
            print(f"{done} -> {len(member)} bytes by {by}", flush=True)
            rest = part[done:]
    device.call("unmap", mapping=page["mapping"])
    device.call("close_descriptor", descriptor=descriptor)
    device.ask("bye", {})


if __name__ == "__main__":
    main(*sys.argv[1:])
