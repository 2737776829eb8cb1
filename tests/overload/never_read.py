"""A process that dials, does not read for longer than any heartbeat, and then reads everything: LINK ENDPOINT.

Arguments: the link's name and the endpoint. It prints `dialled`, waits for a line on its standard input, reads until
nothing has come for a while and prints how much that was. A process of its own, because libzmq may abort it.
"""

from __future__ import annotations

import sys

import zmq

from protocol.link import LINKS
from protocol.session_messages import Bye
from protocol.socket import NodeSocket
from protocol.wire import Envelope, encode

QUIET_MS = 500


def main() -> None:
    link, endpoint = sys.argv[1:]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = NodeSocket.dial(context, LINKS[link], endpoint)
    socket.send(b"", encode(Envelope(Bye())))
    print("dialled", flush=True)
    sys.stdin.readline()
    count = 0
    while socket.zmq.poll(QUIET_MS):
        count += sum(1 for _ in socket.receive())
    print(count, flush=True)
    socket.close()
    context.term()


if __name__ == "__main__":
    main()
