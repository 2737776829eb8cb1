"""A process that dials a listener with another key than the one its key file names: real sockets, a faster clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from protocol import curve
from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import ExitCode
from protocol.effects import DIALLED, Core, Dial, Effects, Exit, Peer
from protocol.key_files import init_keys, load_keys
from protocol.keys import KeyFile, Principal, principals_of
from protocol.node import Node, monotonic_us
from protocol.session_messages import Beat
from protocol.shut_out import BROKEN_OFF_US
from protocol.system import parse_system
from protocol.wire import Envelope
from tests.failures.rows import failure
from tests.protocol.counting_node import CountingCore
from tests.security.system import DEADLINE_S, SYSTEM, Halting, NoStore, eventually, local

FASTER = 10
BROKEN_OFF_MOST = 1
"""Handshakes come in real time; the clock's reports of them are to come as often as they do otherwise."""
ALARM_US = 4 * BROKEN_OFF_US
"""A process that has not ended by then never does."""
SAY_US, DIAL_US = 25 * MILLISECOND_US, 3 * SECOND_US
"""The loop waits in real time: what is due in 25 ms is done a quarter of a second later by the clock."""


class Knocking:
    """Says something again and again, and dials anew where nothing comes, as a role does that has no session."""

    def __init__(self, endpoint: str) -> None:
        self.effects = Effects()
        self.endpoint = endpoint
        self.began_us = self.due_us = self.dial_us = self.ended_us = 0
        self.heard = 0
        self.halt_us: int | None = None

    def start(self, now_us: int) -> None:
        self.began_us = self.due_us = self.dial_us = now_us

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self.heard += 1

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        """Nobody is dialled that could be."""

    def tick(self, now_us: int) -> None:
        assert self.halt_us is not None or now_us - self.began_us < ALARM_US, "it never ends"
        self.ended_us = now_us
        if self.halt_us is not None and now_us >= self.halt_us:
            self.effects.exit = Exit(ExitCode.OK, "the test is over")
        if now_us >= self.dial_us:
            self.dial_us = now_us + DIAL_US
            self.effects.transmissions.append(Dial("hcall", self.endpoint))
        if now_us >= self.due_us:
            self.due_us = now_us + SAY_US
            self.effects.send("hcall", DIALLED, Envelope(Beat(sequence=1)))

    def wake_us(self) -> int | None:
        return self.due_us

    def stop(self, now_us: int) -> None:
        """Nobody asks it to."""


def keys_of_system(folder: Path) -> KeyFile:
    init_keys(folder, principals_of(parse_system(SYSTEM, "secured.toml")))
    return load_keys(folder)


def faster_us() -> int:
    return monotonic_us() * FASTER


@pytest.fixture(autouse=True)
def told_of_each_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "BROKEN_OFF_MOST", BROKEN_OFF_MOST)


@contextmanager
def running(core: Core, endpoint: str, keys: KeyFile) -> Iterator[None]:
    """A hypervisor's node with its key in these files."""
    halting = Halting(core)
    node = Node(halting, {"hcall": endpoint}, NoStore(), keys=keys.keyring(Principal.parse("hypervisor")))
    thread = threading.Thread(target=node.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        halting.halt.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@failure(
    "security",
    "an NX unit or a partition dials a hypervisor with another key than its key file says (files of two `keys init`)",
    seen="One line `key_refused` a minute; where it has never been let in it ends with exit code 8 and says why.",
    lasts="30 s, which is longer than a hypervisor needs that is restarted behind a forwarder.",
    kept="Everything else goes on; the hypervisor notices nothing.",
)
def test_a_process_whose_handshakes_are_all_broken_off_says_so_once_and_ends(tmp_path: Path) -> None:
    theirs, ours = keys_of_system(tmp_path / "theirs"), keys_of_system(tmp_path / "ours")
    endpoint = local()
    core = Knocking(endpoint)
    node = Node(core, {}, clock=faster_us, keys=ours.keyring(Principal.parse("lpar:lp1")))
    with running(CountingCore(), endpoint, theirs), capture_logs() as lines:
        ending = node.run()
    assert ending.code is ExitCode.REFUSED
    assert f"{endpoint} breaks off every handshake with the key of lpar:lp1" in ending.reason
    assert "two `keys init`" in ending.reason
    assert BROKEN_OFF_US <= core.ended_us - core.began_us < ALARM_US
    assert [line["event"] for line in lines].count("key_refused") == 1
    assert lines[-1]["event"] == "process_failed"


def test_a_process_that_was_let_in_once_goes_on_trying(tmp_path: Path) -> None:
    theirs, ours = keys_of_system(tmp_path / "theirs"), keys_of_system(tmp_path / "ours")
    endpoint = local()
    core = Knocking(endpoint)
    node = Node(core, {}, clock=faster_us, keys=ours.keyring(Principal.parse("lpar:lp1")))
    endings: list[Exit] = []
    thread = threading.Thread(target=lambda: endings.append(node.run()), daemon=True)
    with capture_logs() as lines:
        with running(CountingCore(), endpoint, ours):
            thread.start()
            eventually(lambda: core.heard > 0, "it is let in")
        with running(CountingCore(), endpoint, theirs):
            eventually(lambda: bool(told(lines)), "its handshakes are broken off")
            core.halt_us = core.ended_us + BROKEN_OFF_US + 5 * SECOND_US
            thread.join(DEADLINE_S)
    assert [ending.code for ending in endings] == [ExitCode.OK]
    assert len(told(lines)) == 1, "one a minute"


def told(lines: Sequence[EventDict]) -> list[EventDict]:
    """What was said about the keys."""
    return [line for line in lines if line["event"] == "key_refused"]
