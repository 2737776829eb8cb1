"""Connections between a client and a cluster that lose messages: each named one once, and then a whole connection."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from protocol.stale_socket import remove_stale_socket

POLL_MS = 20


class LossyLinks:
    """Stands between clients and a partition, and between clients and the NX unit that the partition names.

    The first message of each type in `losses` is lost. When a message of type `deaf_at` arrives, the connection that
    carried it is dead from then on, without either end being told.
    """

    def __init__(self, folder: Path, device: str, losses: set[str], deaf_at: str) -> None:
        self.device = f"ipc://{folder}/device"
        self.lost: set[str] = set()
        self.deaf: set[bytes] = set()
        self._losses, self._deaf_at = losses, deaf_at
        self._paste = f"ipc://{folder}/paste"
        self._targets = {self.device: device}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._fronts = {endpoint: self._listen(endpoint) for endpoint in (self.device, self._paste)}
        self._backs: dict[tuple[str, bytes], zmq.Socket[bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _listen(self, endpoint: str) -> zmq.Socket[bytes]:
        remove_stale_socket(endpoint)
        socket = self._context.socket(zmq.ROUTER)
        socket.bind(endpoint)
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _run(self) -> None:
        while not self._stop.is_set():
            for _socket, _event in self._poller.poll(POLL_MS):
                self._carry()

    def _carry(self) -> None:
        """Whatever has arrived goes on to the other side, or is lost."""
        for endpoint, front in self._fronts.items():
            while front.poll(0):
                client, *frames = front.recv_multipart()
                if msgpack.unpackb(frames[0])["type"] == self._deaf_at and not self.deaf:
                    self.deaf.add(client)
                if client not in self.deaf and not self._loses(frames):
                    self._back(endpoint, client).send_multipart(frames)
        for (endpoint, client), back in list(self._backs.items()):
            while back.poll(0):
                frames = back.recv_multipart()
                if client not in self.deaf and not self._loses(frames):
                    self._fronts[endpoint].send_multipart([client, *self._readdressed(frames)])

    def _loses(self, frames: list[bytes]) -> bool:
        name = msgpack.unpackb(frames[0])["type"]
        if name not in self._losses - self.lost:
            return False
        self.lost.add(name)
        return True

    def _back(self, endpoint: str, client: bytes) -> zmq.Socket[bytes]:
        key = (endpoint, client)
        if key not in self._backs:
            self._backs[key] = self._context.socket(zmq.DEALER)
            self._backs[key].connect(self._targets[endpoint])
            self._poller.register(self._backs[key], zmq.POLLIN)
        return self._backs[key]

    def _readdressed(self, frames: list[bytes]) -> list[bytes]:
        """The pastes of a mapped page come through here, too."""
        head: dict[str, Any] = msgpack.unpackb(frames[0])
        if head["type"] == "mapped":
            endpoints = head["body"]["address"]["endpoints"]
            self._targets[self._paste] = endpoints["local"]
            endpoints["local"] = self._paste
        return [msgpack.packb(head), *frames[1:]]
