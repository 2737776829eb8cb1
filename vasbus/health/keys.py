"""The keys for a health check, from a key folder or an exported file. docs/security.md has the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protocol.z85 import is_key

PUBLIC_FILE, SECRETS = "public.keys", "*.key"
CANDIDATES_LIMIT = 4
"""Keys that a listener may have while they are being changed, and that are tried."""


class BadKeys(Exception):
    """The key file is wrong, or has not the key that is needed."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair in Z85 with its owner, and the public keys of which the listener has one."""

    owner: str
    public: str
    secret: str = field(repr=False)
    listener: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundKeys:
    """What key files say: pairs and public keys by principal."""

    own: dict[str, tuple[str, str]] = field(default_factory=dict)
    public: dict[str, list[str]] = field(default_factory=dict)

    def pair(self, *roles: str) -> tuple[str, tuple[str, str]]:
        """The pair of the first of these roles that has one. Raises BadKeys where it has several, or none has any."""
        for role in roles:
            owners = [owner for owner in self.own if owner.partition(":")[0] == role]
            if len(owners) > 1:
                raise BadKeys(f"expected the secret key of one {role}, there are: {', '.join(sorted(owners))}")
            if owners:
                return owners[0], self.own[owners[0]]
        there = ", ".join(sorted(self.own)) or "none"
        raise BadKeys(f"expected a secret key of {' or '.join(roles)}, there are those of: {there}")

    def credentials(self, roles: Sequence[str], listeners: Sequence[str]) -> Credentials:
        """For the first role that has a key; a `{}` in a listener's principal is the name of the key's owner.

        The listener is the first of `listeners` that has public keys. Raises BadKeys.
        """
        owner, (public, secret) = self.pair(*roles)
        wanted = [listener.format(owner.partition(":")[2]) for listener in listeners]
        known = next((self.public[each] for each in wanted if each in self.public), None)
        if known is None:
            raise BadKeys(f"no public key of {' or '.join(wanted)}: export the file again")
        # A process goes on with its pair of the start while the file has newer ones: its own comes first.
        candidates = sorted(known, key=lambda key: key != public)
        return Credentials(owner, public, secret, tuple(candidates[:CANDIDATES_LIMIT]))


def read_keys(path: Path) -> FoundKeys:
    """The keys at a path. Raises BadKeys."""
    found = FoundKeys()
    try:
        if path.is_dir():
            _take((path / PUBLIC_FILE).read_text(), found)
            for secret in sorted(path.glob(SECRETS)):
                try:
                    _take(secret.read_text(), found)
                except PermissionError:
                    continue
        else:
            _take(path.read_text(), found)
    except (OSError, ValueError) as error:
        raise BadKeys(_complaint(path) or str(error)) from None
    return found


def _take(text: str, found: FoundKeys) -> None:
    """Add what a file's lines say. Raises ValueError for one that says nothing."""
    for line in text.splitlines():
        match line.split():
            case ["own", owner, public, secret] if is_key(public) and is_key(secret):
                found.own[owner] = (public, secret)
            case ["public", owner, public] if is_key(public):
                found.public.setdefault(owner, []).append(public)
            case [word, *_] if not word.startswith("#"):
                raise ValueError("expected lines of `own PRINCIPAL PUBLIC SECRET` and `public PRINCIPAL PUBLIC`")


def _complaint(path: Path) -> str:
    """What is wrong, in the words of the whole reader, which is imported for nothing else."""
    from protocol.key_files import load_keys
    from protocol.keys import KeysError

    try:
        load_keys(path)
    except KeysError as error:
        return str(error)
    return ""
