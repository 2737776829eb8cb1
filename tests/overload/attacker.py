"""A process that attacks while it is told to: MODE DEVICE PASTE, then lines `go` and `hold` on its standard input.

Where messages are many it yields the processor to everybody else, as an attacker on a machine of its own would: what is
measured is the queues.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from lpar.client import Lpar
from protocol.message import PasteAddress
from protocol.paste_messages import Crb, Paste
from protocol.wire import Envelope, encode
from tests.abuse.attacker import Attacker, frame

PASTERS = 100
STRANGERS = 20
SOURCE = b"full speed " * 400
BROKEN_OFF = 3
"""The exit code of an attacker whose connection the attacked process has broken off."""
NEVER_ENDING = bytes(65_536)
GREETING_BYTES = 64
MORE_LONG = b"\x03"
"""The flags of a long frame that another one follows."""
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
LIST = "/sys/kernel/debug/vasbus/windows"

Burst = Callable[[], None]
"""One round of an attack: it returns soon, and is called again for as long as the attack lasts."""


def mapped(lpar: Lpar) -> PasteAddress:
    """Where a new window's pastes go."""
    device = lpar.open_device()
    device.tx_win_open()
    address = device.mmap().address
    assert address is not None
    return address


def pasting(stack: ExitStack, device: str, paste: str) -> Burst:
    """A hundred connections, each with a window of its own, repeat a paste as soon as the last one is answered."""
    owner = stack.enter_context(Lpar(device))
    addresses = [mapped(owner) for _ in range(PASTERS)]
    attackers = [stack.enter_context(Attacker("paste", paste)) for _ in addresses]
    numbers = [0] * PASTERS

    def burst() -> None:
        for index, (attacker, address) in enumerate(zip(attackers, addresses, strict=True)):
            if not attacker.hear_waiting() and numbers[index]:
                continue
            numbers[index] += 1
            body = Paste(
                window_id=address.window_id, token=address.token, number=numbers[index],
                crb=Crb(function=0, target_bytes=2 * len(SOURCE)),
            )  # fmt: skip
            attacker.send(encode(Envelope(body, number=numbers[index], frames=(SOURCE,))))

    return burst


def garbage(stack: ExitStack, device: str, paste: str) -> Burst:
    """Frames of random bytes at both sockets, whose answers are read."""
    places = [("device", device), ("paste", paste)] * (STRANGERS // 2)
    attackers = [stack.enter_context(Attacker(link, endpoint)) for link, endpoint in places]

    def burst() -> None:
        for attacker in attackers:
            attacker.hear_waiting()
            attacker.send([os.urandom(60), os.urandom(2000)])

    return burst


def never_reading(stack: ExitStack, device: str, paste: str) -> Burst:
    """Clients that ask for a file as fast as the socket takes it, and strangers that paste; none reads an answer."""
    clients = [stack.enter_context(Attacker("device", device)).hello("client") for _ in range(STRANGERS // 2)]
    strangers = [stack.enter_context(Attacker("paste", paste)) for _ in range(STRANGERS // 2)]
    unknown = {"window_id": 1, "token": bytes(16), "number": 1, "crb": {"function": 0, "target_bytes": 100}}

    def burst() -> None:
        for client in clients:
            client.number += 1
            number = client.number
            client.throw([frame("read_file", {"path": LIST}, client.epoch, number, acked=number)])
        for stranger in strangers:
            stranger.throw([frame("paste", unknown), bytes(100_000)])

    return burst


def endless(stack: ExitStack, device: str, _paste: str) -> Burst:
    """One message whose frames do not end, for the partition's kernel. libzmq would not send it: this is raw ZMTP.

    A frame that comes before the listener's own READY breaks the connection off, so that one is waited for.
    """
    stream = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    stream.connect(device.removeprefix("ipc://"))
    stream.settimeout(30.0)
    stream.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    stream.sendall(b"\x04" + bytes([len(READY)]) + READY)
    answers = stack.enter_context(stream.makefile("rb"))
    answers.read(GREETING_BYTES)
    _, length = answers.read(2)
    assert answers.read(length).startswith(b"\x05READY")
    part = MORE_LONG + len(NEVER_ENDING).to_bytes(8, "big") + NEVER_ENDING

    def burst() -> None:
        try:
            stream.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(BROKEN_OFF)

    return burst


AUTOGROUP = Path("/proc/self/autogroup")
LOWEST = 19
"""The nice value of who gives way to everybody."""
MODES = {"pasting": pasting, "garbage": garbage, "never_reading": never_reading, "endless": endless}


def yield_the_processor() -> None:
    """Run only on what everybody else leaves free.

    Where Linux groups processes by session (CONFIG_SCHED_AUTOGROUP), a policy or a nice value counts inside the group
    alone, and the group has a nice value of its own. In one group with the cluster the idle policy is not enough:
    processes that had nothing to do waited tens of milliseconds for a core (6.18).
    """
    os.setsid()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(FileNotFoundError):
        AUTOGROUP.write_text(str(LOWEST))


def told() -> bool:
    """Whether a word waits on the standard input, or its end."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main() -> None:
    mode, device, paste = sys.argv[1:]
    if mode != "endless":
        yield_the_processor()
    with ExitStack() as stack:
        burst = MODES[mode](stack, device, paste)
        print("held", flush=True)
        while sys.stdin.readline() == "go\n":
            bursts = 0
            while not told():
                burst()
                bursts += 1
            assert sys.stdin.readline() in ("hold\n", "")
            print(f"held {bursts}", flush=True)


if __name__ == "__main__":
    main()
