"""Many partitions' kernels in one process: their real sessions on real sockets, and no more than that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq

from deploy.cluster import ClusterFolder
from protocol.codes import HYPERVISOR_CHOOSES, MODIFY_FLAGS, HcallCode
from protocol.dialer import Dialer, Identity
from protocol.effects import Dial, Effects, Hangup, Send
from protocol.hcall_messages import HAllocateVasWindow, HcallStatus, HModifyVasWindow, WindowAllocated
from protocol.link import HCALL
from protocol.message import Reply
from protocol.node import monotonic_us
from protocol.session import Answered, Ended, Event
from protocol.session_messages import Refused
from protocol.socket import NodeSocket
from protocol.system import SystemSettings, parse_system
from protocol.wire import decode, encode

POLL_MS = 5
ALLOCATE = HAllocateVasWindow(window_type=1, credits=1, domain=(HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0))


class Kernel:
    """One partition: its session, the windows that it was given, and those that are bound."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], system: SystemSettings, name: str, hcall: str) -> None:
        self.context = context
        self.effects = Effects()
        self.allocated: list[WindowAllocated] = []
        self.bound: set[int] = set()
        self.refused: list[Reply | Refused] = []
        self.ended: Refused | None = None
        self.socket: NodeSocket | None = None
        identity = Identity("lpar", name, os.urandom(16), "local", os.getpid(), {})
        terms = system.times.terms(system.times.lpar_lease_ms, by_beats=True)
        self.dialer = Dialer("hcall", hcall, identity, terms, self.effects)
        self.dialer.open(monotonic_us())

    def turn(self) -> None:
        """Read, tick, send."""
        if self.socket is not None:
            for _, frames in self.socket.receive():
                for event in self.dialer.receive(decode(frames, HCALL.down), monotonic_us()):
                    self.handle(event)
        self.dialer.tick(monotonic_us())
        for wish in self.effects.take().transmissions:
            if isinstance(wish, Send):
                assert self.socket is not None
                self.socket.send(wish.peer, encode(wish.envelope))
                continue
            self.hang_up()
            if isinstance(wish, Dial):
                self.socket = NodeSocket.dial(self.context, HCALL, wish.endpoint)
            else:
                assert isinstance(wish, Hangup)

    def handle(self, event: Event) -> None:
        if isinstance(event, Answered) and isinstance(event.reply, WindowAllocated):
            self.allocated.append(event.reply)
            self._bind(event.reply.window_id)
        elif isinstance(event, Answered) and isinstance(event.request, HModifyVasWindow):
            self._modified(event.request.window_id, event.reply)
        elif isinstance(event, Ended):
            self.ended = event.refusal

    def _modified(self, window_id: int, reply: Reply | Refused) -> None:
        """As the kernel does it: again, where the hypervisor is busy."""
        code = reply.code if isinstance(reply, HcallStatus) else None
        if code is HcallCode.H_SUCCESS:
            self.bound.add(window_id)
        elif code is not None and code.is_busy:
            self._bind(window_id)
        else:
            self.refused.append(reply)

    def _bind(self, window_id: int) -> None:
        bind = HModifyVasWindow(window_id=window_id, process_id=77, flags=MODIFY_FLAGS)
        self.dialer.call(self.dialer.session, bind, monotonic_us())

    def allocate(self) -> None:
        """Ask for a window without waiting; it is bound as soon as it is there."""
        self.dialer.call(self.dialer.session, ALLOCATE, monotonic_us())

    def is_due(self, now_us: int) -> bool:
        """Whether it has something to send now."""
        wake_us = self.dialer.wake_us()
        return bool(self.effects.transmissions) or (wake_us is not None and wake_us <= now_us)

    def hang_up(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@contextmanager
def kernels_of(system: str, folder: ClusterFolder) -> Iterator[Kernels]:
    """The kernels of every partition of a system file's text, at the hypervisor of a folder."""
    kernels = Kernels(parse_system(system, "system.toml"), folder.addresses().hcall)
    try:
        yield kernels
    finally:
        kernels.close()


class Kernels:
    """The kernels of every partition of a system."""

    def __init__(self, system: SystemSettings, hcall: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.all = [Kernel(self.context, system, lpar.name, hcall) for lpar in system.lpar]

    def run(self, until: Callable[[], bool], wait_s: float) -> float:
        """Turn until something is so; the seconds it took. Fails after `wait_s`."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < wait_s, f"not within {wait_s:g} s"
            self._turn()
        return time.monotonic() - began

    def close(self) -> None:
        for kernel in self.all:
            kernel.hang_up()
        self.context.term()

    def _turn(self) -> None:
        """Whoever has a message, a wish or something due gets its turn."""
        by_socket = {kernel.socket.zmq: kernel for kernel in self.all if kernel.socket is not None}
        poller = zmq.Poller()
        for socket in by_socket:
            poller.register(socket, zmq.POLLIN)
        ready = {id(by_socket[socket]) for socket, _ in poller.poll(POLL_MS) if isinstance(socket, zmq.Socket)}
        now_us = monotonic_us()
        for kernel in self.all:
            if id(kernel) in ready or kernel.is_due(now_us):
                kernel.turn()
