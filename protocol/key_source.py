"""The keys of a running process, and who may come in by them: public keys may change while it runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from protocol.effects import LogLine, Peer
from protocol.keys import KeyFile, Keyring, KeysError, Principal

CALLERS_LIMIT = 65_536
"""Connections of one link whose keys are remembered: as many as there may be sessions."""
AWAY_LIMIT = 4_096
"""Connections of one link that broke and may be made again, and whose keys are remembered."""
KeyReader = Callable[[], KeyFile | None]
"""Gives what the key file says where it has changed since the last call.

Raises KeysError, once for each change; KeysOutOfReach, which is one, at each call until the file could be read.
"""


class KeysOutOfReach(KeysError):
    """A key file could not be read at all, which may pass: the disk, the network, no free descriptor."""


def never_changed() -> KeyFile | None:
    """The reader of keys that come from no file."""
    return None


@dataclass(frozen=True, slots=True)
class KeysRead:
    """The key file has changed. `problem`: it cannot be read, and nothing has changed here. `shut_out`: public keys
    that are not taken any more. `restart`: the file has another secret key, which is for the next start.
    """

    problem: str = ""
    shut_out: frozenset[str] = frozenset()
    restart: bool = False

    def line(self) -> LogLine:
        """What is logged about it."""
        if self.problem:
            return LogLine("error", "keys_unreadable", {"why": self.problem, "meaning": "the keys of before are used"})
        advice = {"advice": "restart this process to use its new secret key"} if self.restart else {}
        return LogLine("info", "keys_read", {"shut_out": len(self.shut_out), **advice})


class KeySource:
    """A process's keys: its own pair is that of its start, the public keys are those that the file has now."""

    def __init__(self, keyring: Keyring, read: KeyReader = never_changed) -> None:
        self.keyring = keyring
        self._read = read
        self._out_of_reach = False

    def refresh(self) -> KeysRead | None:
        """Look whether the file has changed, and take its public keys; None where it has not.

        A file that is damaged or gone changes nothing: nobody is shut out by a mistake in it. One that cannot be
        read is tried again at each look, and told of at the first.
        """
        told, self._out_of_reach = self._out_of_reach, False
        try:
            found = self._read()
        except KeysOutOfReach as error:
            self._out_of_reach = True
            return None if told else KeysRead(problem=str(error))
        except KeysError as error:
            return KeysRead(problem=str(error))
        if found is None:
            return None
        if not found.public:
            return KeysRead(problem="the key file has no public key any more: is it being written?")
        before = self.keyring
        self.keyring = Keyring(before.owner, before.pair, found.public, before.lender)
        own = found.own.get(before.key_owner, before.pair)
        return KeysRead(shut_out=_keys_of(before) - _keys_of(self.keyring), restart=own != before.pair)


def _keys_of(keyring: Keyring) -> frozenset[str]:
    return frozenset(key for known in keyring.public.values() for key in known)


def source_of(keys: KeySource | Keyring | None) -> KeySource | None:
    """A source also where the keys never change."""
    return KeySource(keys) if isinstance(keys, Keyring) else keys


def keyring_of(source: KeySource | None) -> Keyring | None:
    """The keys of this moment; None where there are none."""
    return source.keyring if source is not None else None


class Admission:
    """Which connections of a process's links are let in: by the keys of this moment, not of the handshake's."""

    def __init__(self, keys: KeySource) -> None:
        self.keys = keys
        self._callers: dict[str, dict[Peer, str]] = {}
        self._away: dict[str, dict[Peer, str]] = {}
        self._outcasts: dict[str, dict[Peer, str]] = {}
        self._strangers: dict[str, dict[Peer, str]] = {}

    def sender(self, link: str, public_key: str) -> Principal | None:
        """Whose message this is; None where the key of its connection has been shut out since."""
        return self.keys.keyring.authorise(link, public_key)

    def remember(self, link: str, peer: Peer, public_key: str) -> None:
        """A connection has said HELLO. Beyond CALLERS_LIMIT of a link the oldest is forgotten."""
        for table in (self._away, self._outcasts, self._strangers):
            table.get(link, {}).pop(peer, None)
        _keep(self._callers.setdefault(link, {}), peer, public_key)

    def continues(self, link: str, peer: Peer, public_key: str) -> bool:
        """Whether a message is of the connection that said HELLO there, by its key.

        A peer may choose its routing id, and take one that is free again. With the same key it is the one of before,
        which ZeroMQ has made again.
        """
        if self._callers.get(link, {}).get(peer) == public_key:
            return True
        if self._away.get(link, {}).get(peer) != public_key:
            return False
        self.remember(link, peer, public_key)
        return True

    def is_of_another(self, link: str, peer: Peer, public_key: str) -> bool:
        """Whether HELLO was said under that routing id with another key: what that began may still be there."""
        known = (table.get(link, {}).get(peer, public_key) for table in (self._callers, self._away))
        return any(key != public_key for key in known)

    def leave(self, link: str, peer: Peer) -> None:
        """A connection is gone; it may be made again."""
        public_key = self._callers.get(link, {}).pop(peer, None)
        if public_key is not None:
            _keep(self._away.setdefault(link, {}), peer, public_key, AWAY_LIMIT)

    def estrange(self, link: str, peer: Peer, public_key: str) -> None:
        """Somebody has a routing id who has not said HELLO under it: it hears refusals, and nothing of a session."""
        _keep(self._strangers.setdefault(link, {}), peer, public_key)

    def is_stranger(self, link: str, peer: Peer) -> bool:
        """Whether a routing id is at present somebody's who has not said HELLO under it."""
        return peer in self._strangers.get(link, {})

    def cast_out(self, link: str, peer: Peer, public_key: str) -> None:
        """The key of a connection is not taken any more: nothing is sent there either, until another one is there."""
        _keep(self._outcasts.setdefault(link, {}), peer, public_key)

    def is_outcast(self, link: str, peer: Peer) -> bool:
        """Whether nothing may be sent there."""
        return peer in self._outcasts.get(link, {})

    def shut_out(self) -> Iterator[tuple[str, Peer]]:
        """The connections with keys that are not taken any more, once each."""
        for table in (self._callers, self._away):
            for link, callers in table.items():
                gone = [(peer, key) for peer, key in callers.items() if self.sender(link, key) is None]
                for peer, key in gone:
                    del callers[peer]
                    self.cast_out(link, peer, key)
                    yield link, peer


def _keep(table: dict[Peer, str], peer: Peer, public_key: str, limit: int = CALLERS_LIMIT) -> None:
    """The newest is last, and the oldest goes where there are too many."""
    table.pop(peer, None)
    table[peer] = public_key
    if len(table) > limit:
        del table[next(iter(table))]
