"""A process that does not read for a while, and then reads everything: LINK ENDPOINT, and `listens` or `dials`.

It prints that it is ready, waits for a line on its standard input, reads until nothing has come for a while and prints
how much that was. A process of its own, because libzmq may abort it.
"""

from __future__ import annotations

import sys

import zmq

from protocol.link import LINKS
from protocol.session_messages import Bye
from protocol.socket import NodeSocket
from protocol.wire import Envelope, encode

QUIET_MS = 500


def connected(context: zmq.Context[zmq.Socket[bytes]], link: str, endpoint: str, how: str) -> NodeSocket:
    """Who dials says something first, so that the listener knows it."""
    if how == "listens":
        return NodeSocket.listen(context, LINKS[link], endpoint)
    socket = NodeSocket.dial(context, LINKS[link], endpoint)
    socket.send(b"", encode(Envelope(Bye())))
    return socket


def main() -> None:
    link, endpoint, how = sys.argv[1:]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = connected(context, link, endpoint, how)
    print("ready", flush=True)
    sys.stdin.readline()
    count = 0
    while socket.zmq.poll(QUIET_MS):
        count += sum(1 for _ in socket.receive())
    print(count, flush=True)
    socket.close()
    context.term()


if __name__ == "__main__":
    main()
