"""The files that dead listeners leave behind."""

from __future__ import annotations

from pathlib import Path

import zmq


def remove_stale_socket(endpoint: str) -> None:
    """Remove the file of an ipc endpoint on which nobody listens any more (its owner was killed).

    Raises zmq.ZMQError with EADDRINUSE where somebody listens, or where the file is no socket: a bind would remove
    either without a word.
    """
    if not endpoint.startswith("ipc://"):
        return
    import socket as unix

    path = Path(endpoint.removeprefix("ipc://"))
    if not path.exists():
        return
    if not path.is_socket():
        raise zmq.ZMQError(zmq.EADDRINUSE)
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
    raise zmq.ZMQError(zmq.EADDRINUSE)
