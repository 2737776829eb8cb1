"""Changing the keys in a key folder: a new pair beside the old key, the old key taken out, somebody shut out."""

from __future__ import annotations

from pathlib import Path

from protocol.key_files import (
    locked,
    make_pair,
    own_pair,
    public_keys,
    replace_file,
    secret_path,
    secret_text,
    write_public,
)
from protocol.keys import KeysError, Principal


def rotate_key(folder: Path, owner: Principal) -> None:
    """Make a new pair for a principal. Its old key is taken beside the new one, until `retire_keys`.

    The list comes first: who has the new secret is known, also where this is killed in between. Raises KeysError where
    the principal has no key here, or where an earlier change of its key has not ended. Raises OSError.
    """
    with locked(folder):
        listed = dict(public_keys(folder))
        known = _known(folder, owner, listed)
        if known != (own_pair(folder, owner).public,):
            raise KeysError(
                f"the key of {owner} is being changed already: `vasbus keys revoke {folder} {owner} --old` ends that"
            )
        pair = make_pair()
        write_public(folder, {**listed, owner: (*known, pair.public)})
        replace_file(secret_path(folder, owner), secret_text(owner, pair))


def retire_keys(folder: Path, owner: Principal) -> int:
    """Take out every public key of a principal but that of its present secret; how many there were.

    Raises KeysError where there is no other, or the secret is not here to tell which it is. Raises OSError.
    """
    with locked(folder):
        listed = dict(public_keys(folder))
        known = _known(folder, owner, listed)
        present = own_pair(folder, owner).public
        if known == (present,):
            raise KeysError(f"{owner} has one key, which is its present one: `vasbus keys rotate` makes it another")
        write_public(folder, {**listed, owner: (present,)})
        return len(set(known) - {present})


def revoke_keys(folder: Path, owner: Principal) -> int:
    """Take out a principal with all its keys, its secret too; how many public keys that were.

    The secret goes first: as long as it is there, `init_keys` would list it again. Raises KeysError where it has no
    key here. Raises OSError.
    """
    with locked(folder):
        listed = dict(public_keys(folder))
        known = _known(folder, owner, listed)
        secret_path(folder, owner).unlink(missing_ok=True)
        del listed[owner]
        write_public(folder, listed)
        return len(known)


def _known(folder: Path, owner: Principal, listed: dict[Principal, tuple[str, ...]]) -> tuple[str, ...]:
    known = listed.get(owner)
    if known is None:
        there = ", ".join(map(str, sorted(listed))) or "none"
        raise KeysError(f"{folder} has no key of {owner}; it has those of: {there}")
    return known
