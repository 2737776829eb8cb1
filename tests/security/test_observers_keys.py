"""An observer that runs since before its hypervisor's key was changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hmc.observer import Observer
from protocol.clock import MILLISECOND_US
from protocol.effects import Effects, Peer
from protocol.key_changes import retire_keys, rotate_key
from protocol.key_files import export_keys, init_keys, load_keys
from protocol.keys import KeyRole, Principal, principals_of
from protocol.message import Message
from protocol.node import Node
from protocol.system import parse_system
from protocol.telemetry_messages import PeerMoved
from protocol.wire import Envelope
from tests.failures.rows import failure
from tests.security.system import DEADLINE_S, SYSTEM, Halting, NoStore, local

HYPERVISOR, OBSERVER = Principal(KeyRole.HYPERVISOR), Principal(KeyRole.OBSERVER)
HEARS_NOTHING_S = 0.5
TELL_US = 20 * MILLISECOND_US


class Telling:
    """Publishes again and again, as a hypervisor does to which something happens."""

    def __init__(self, epoch: int) -> None:
        self.effects = Effects()
        self.epoch = epoch
        self.due_us = 0

    def start(self, now_us: int) -> None:
        self.due_us = now_us

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        """Nobody says anything."""

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        """Nobody is told anything but the stream."""

    def tick(self, now_us: int) -> None:
        if now_us >= self.due_us:
            self.due_us = now_us + TELL_US
            self.effects.publish(PeerMoved(at_us=now_us, role="lpar", name="lp1", epoch=self.epoch, step="opened"))

    def wake_us(self) -> int | None:
        return self.due_us

    def stop(self, now_us: int) -> None:
        """Nobody asks it to."""


@contextmanager
def hypervisor(folder: Path, endpoint: str, epoch: int) -> Iterator[None]:
    """Its process, with the secret key that is in the folder by now."""
    halting = Halting(Telling(epoch))
    node = Node(halting, {}, NoStore(), endpoint, keys=load_keys(folder).keyring(HYPERVISOR))
    thread = threading.Thread(target=node.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        halting.halt.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def hears(observer: Observer, epoch: int, wait_s: float = DEADLINE_S) -> bool:
    """Whether something comes that this process says, and not the one before it."""

    def is_of(message: Message) -> bool:
        return isinstance(message, PeerMoved) and message.epoch == epoch

    return observer.wait_for(is_of, wait_s) is not None


@failure(
    "security",
    "a hypervisor's key is changed while somebody watches (`vasbus top`)",
    seen="The stream stands still while the hypervisor restarts, and goes on; what was missed shows by its numbers.",
    lasts="Until the watcher's key file has the new key and the hypervisor is back.",
    kept="The watcher.",
)
@pytest.mark.parametrize("exported", ["before the restart", "after the old key was taken out"])
def test_an_observer_finds_a_hypervisor_again_whose_key_was_changed(tmp_path: Path, exported: str) -> None:
    folder, own, endpoint = tmp_path / "keys", tmp_path / "observer.keys", local()
    init_keys(folder, principals_of(parse_system(SYSTEM, "secured.toml")))
    export_keys(folder, [OBSERVER], own)
    with Observer(endpoint, own) as observer:
        with hypervisor(folder, endpoint, 1):
            assert hears(observer, 1)
        rotate_key(folder, HYPERVISOR)
        if exported == "before the restart":
            export_keys(folder, [OBSERVER], own, replace=True)
        else:
            retire_keys(folder, HYPERVISOR)
        with hypervisor(folder, endpoint, 2):
            if exported != "before the restart":
                assert not hears(observer, 2, HEARS_NOTHING_S), "nobody whose key it knows is there"
                export_keys(folder, [OBSERVER], own, replace=True)
            assert hears(observer, 2)
