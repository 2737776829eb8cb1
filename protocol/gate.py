"""Who is let in at the tcp sockets of a process that has keys: at the handshake, and as long as its key is taken."""

from __future__ import annotations

from collections.abc import Iterator

import zmq

from protocol.clock import SECOND_US
from protocol.effects import LogLine, Peer
from protocol.key_source import Admission, KeySource
from protocol.keys import check_claim
from protocol.message import Message
from protocol.refusals import RefusalCode
from protocol.session_messages import Hello, Refused
from protocol.socket import Unreachable
from protocol.wire import Envelope, WireError
from protocol.zap import ZapHandler

LOOK_US = 1 * SECOND_US
"""How often the key file is looked at for keys that are shut out; at a handshake it always is."""


class Gate:
    """Decides by the keys that the key file has at the moment. One per context, made before anybody connects."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: KeySource, poller: zmq.Poller) -> None:
        self.keys = keys
        self.admission = Admission(keys)
        self._zap = ZapHandler(context, lambda: keys.keyring, poller)
        self._looked_us: int | None = None
        self.has_shut_out = False

    def turn(self, now_us: int) -> Iterator[LogLine]:
        """Decide on those who wait to be let in, by the key file as it is; yields what is worth telling."""
        self.has_shut_out = False
        if self._looked_us is None or now_us >= self._looked_us + LOOK_US or self._zap.is_asked:
            self._looked_us = now_us
            read = self.keys.refresh()
            if read is not None:
                self.has_shut_out = bool(read.shut_out)
                yield read.line()
        for facts in self._zap.serve():
            yield LogLine("warning", "key_refused", facts)

    def shut_out(self) -> Iterator[tuple[str, Peer]]:
        """Where this turn's look has shut keys out: the connections of sessions with such keys."""
        return self.admission.shut_out() if self.has_shut_out else iter(())

    def admits(self, link: str, peer: Peer, public_key: str) -> bool:
        """Whether the key of a message's connection is still taken; nothing is sent to one whose key is not."""
        if self.admission.sender(link, public_key) is not None:
            return True
        self.admission.cast_out(link, peer, public_key)
        return False

    def continues(self, link: str, peer: Peer, public_key: str) -> bool:
        """Whether a message is of the connection that said HELLO under that routing id, and its key is still taken."""
        taken = self.admission.sender(link, public_key) is not None
        return taken and self.admission.continues(link, peer, public_key)

    def check_reach(self, link: str, peer: Peer, body: Message) -> None:
        """Raises Unreachable where the key of a connection is not taken any more, or another key has its routing id."""
        if self.admission.is_outcast(link, peer):
            raise Unreachable
        if self.admission.is_stranger(link, peer) and not isinstance(body, Refused):
            raise Unreachable

    def check(self, link: str, peer: Peer, public_key: str, envelope: Envelope) -> None:
        """Hold what a message claims against its key, and that of its session. Raises WireError."""
        sender = self.admission.sender(link, public_key)
        assert sender is not None, "messages of other keys are not read"
        check_claim(sender, envelope)
        if isinstance(envelope.body, Hello):
            if self.admission.is_of_another(link, peer, public_key):
                came = "that of a session with another key"
                raise WireError(RefusalCode.KEY, "a routing id of this connection's own", came)
            self.admission.remember(link, peer, public_key)
        elif not self.admission.continues(link, peer, public_key):
            raise WireError(
                RefusalCode.NO_SESSION,
                "HELLO as the first message",
                envelope.body.type,
                envelope.epoch,
                envelope.number,
            )

    def close(self) -> None:
        """Stop deciding."""
        self._zap.close()
