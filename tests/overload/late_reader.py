"""A process that listens, does not read until it is told to, and then reads everything: LINK ENDPOINT.

It prints `listening`, waits for a line on its standard input, reads until nothing has come for a while and prints how
much that was. A process of its own, because libzmq may abort it.
"""

from __future__ import annotations

import sys

import zmq

from protocol.link import LINKS
from protocol.socket import NodeSocket

QUIET_MS = 500


def main() -> None:
    link, endpoint = sys.argv[1:]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = NodeSocket.listen(context, LINKS[link], endpoint)
    print("listening", flush=True)
    sys.stdin.readline()
    count = 0
    while socket.zmq.poll(QUIET_MS):
        count += sum(1 for _ in socket.receive())
    print(count, flush=True)
    socket.close()
    context.term()


if __name__ == "__main__":
    main()
