"""Where a socket listens: the files that dead listeners leave behind, and places that somebody else has."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from protocol.endpoint import IPC, is_abstract

LOCK_WAIT_S = 5.0
"""How long the start of another process in the same folder is waited for; it looks who listens, and binds."""
LOCK_AGAIN_S = 0.01


class EndpointTaken(zmq.ZMQError):
    """EADDRINUSE, with the endpoint and who is there."""

    def __init__(self, endpoint: str, why: str = "another process listens there") -> None:
        super().__init__(zmq.EADDRINUSE, f"{endpoint}: {why}")


def bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Listen, also where a dead listener has left its file. Raises EndpointTaken, zmq.ZMQError for other reasons.

    Of several that start at the same time one has it: else each might find the old file stale, and remove a fresh one.
    """
    with _alone(endpoint):
        remove_stale_socket(endpoint)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE:
                raise EndpointTaken(endpoint) from None
            raise


@contextmanager
def _alone(endpoint: str) -> Iterator[None]:
    """The folder of a socket's file is locked until the block ends. Raises EndpointTaken where another one keeps it.

    A folder that cannot be opened is left to the bind, which says what is wrong with it.
    """
    if not endpoint.startswith(IPC) or is_abstract(endpoint):
        yield
        return
    try:
        folder = os.open(Path(endpoint.removeprefix(IPC)).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        _lock(folder, endpoint)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, endpoint: str) -> None:
    end_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                why = f"another process has been starting there for {LOCK_WAIT_S:g} s"
                raise EndpointTaken(endpoint, why) from None
            time.sleep(LOCK_AGAIN_S)
        except OSError:
            return  # This file system has no locks.
        else:
            return


def remove_stale_socket(endpoint: str) -> None:
    """Remove the file of an ipc endpoint on which nobody listens any more (its owner was killed).

    Raises EndpointTaken where somebody listens, or where the file is no socket: a bind would remove
    either without a word.
    """
    if not endpoint.startswith("ipc://"):
        return
    import socket as unix

    path = Path(endpoint.removeprefix("ipc://"))
    if not path.exists():
        return
    if not path.is_socket():
        raise EndpointTaken(endpoint, "a file that is no socket is there")
    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError:
            # Busy or not ours to connect to: somebody's all the same.
            pass
    raise EndpointTaken(endpoint)
