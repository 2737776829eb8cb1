"""Key files on disk: made once, never overwritten, secrets for their owner's eyes only.

A key folder has `public.keys`, the list of everybody's public keys, and one `ROLE-NAME.key` with a secret for each
principal. What a process is given is the folder, or one file that was exported from it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zmq

from protocol.key_source import KeySource, KeysOutOfReach, source_of
from protocol.keys import (
    KeyFile,
    KeyPair,
    Keyring,
    KeyRole,
    KeysError,
    Principal,
    acquaintances,
    own_line,
    parse_keys,
    public_lines,
)  # fmt: skip
from protocol.memory import with_descriptors

KEYS_VARIABLE = "VASBUS_KEYS"
"""The environment variable that names the key folder or file to the commands."""
PUBLIC_FILE = "public.keys"
SECRET_SUFFIX = ".key"
FOLDER_MODE = 0o700
PUBLIC_MODE = 0o644
SECRET_MODE = 0o600
PUBLIC_HEAD = "# Public keys. Without its line a key is shut out; a second line of one principal admits another key.\n"
SIZE_LIMIT = 1 << 20
"""Of one key file; a thousand partitions' public keys need a fifth of it."""


def make_pair() -> KeyPair:
    """A fresh key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def secret_path(folder: Path, owner: Principal) -> Path:
    """Where the secret key of a principal is."""
    return folder / (str(owner).replace(":", "-", 1) + SECRET_SUFFIX)


def load_keys(path: Path) -> KeyFile:
    """The keys of a folder, or of one file. Raises KeysError; KeysOutOfReach, which is one, where that may pass.

    A folder's secrets that this user may not read count as not there.
    """
    try:
        return with_descriptors(lambda: _load_all(path))
    except OSError as error:
        raise _out_of_reach(path, error) from None


def _load_all(path: Path) -> KeyFile:
    """As `load_keys`. Raises OSError where something is out of reach."""
    if not path.is_dir():
        return _load(path)
    public_path = path / PUBLIC_FILE
    if not public_path.is_file():
        advice = f"`vasbus keys init {path} --system FILE` makes the keys of a system"
        raise KeysError(f"{path} has no {PUBLIC_FILE}: {advice}")
    own: dict[Principal, KeyPair] = {}
    for secret in _secrets(path):
        if os.access(secret, os.R_OK):
            own.update(_load(secret).own)
    return KeyFile(own, _load(public_path).public)


def _secrets(folder: Path) -> list[Path]:
    """The secret files of a folder; none where this user may not look into it."""
    try:
        names = os.listdir(folder)
    except PermissionError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(SECRET_SUFFIX)]


def _out_of_reach(path: Path, error: OSError) -> KeysOutOfReach:
    return KeysOutOfReach(f"cannot read the key file {path}: {error}")


def _load(path: Path) -> KeyFile:
    """One key file. Raises KeysError where it is damaged, OSError where it is out of reach."""
    try:
        with path.open() as file:
            text = file.read(SIZE_LIMIT + 1)
    except UnicodeDecodeError as error:
        raise KeysError(f"cannot read the key file {path}: {error}") from None
    if len(text) > SIZE_LIMIT:
        raise KeysError(f"{path}: expected a key file of at most {SIZE_LIMIT} characters, it has more")
    keys = parse_keys(text, str(path))
    for owner, pair in keys.own.items():
        if zmq.curve_public(pair.secret.encode()).decode() != pair.public:
            raise KeysError(f"{path}: the two keys of {owner} do not belong together; expected the line as it was made")
    return keys


def _reached(path: Path) -> KeyFile:
    """One key file. Raises KeysError also where it is out of reach."""
    try:
        return _load(path)
    except OSError as error:
        raise _out_of_reach(path, error) from None


class ChangedKeys:
    """Reads a key folder or file whenever its public list has changed since the last call (a KeyReader).

    A change that could not be read for want of anything counts as none yet, and is read by a later call.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watched = path / PUBLIC_FILE if path.is_dir() else path
        self._stamp = _stamp(self._watched)

    def __call__(self) -> KeyFile | None:
        stamp = _stamp(self._watched)
        if stamp == self._stamp:
            return None
        try:
            found = load_keys(self._path)
        except KeysOutOfReach:
            raise
        except KeysError:
            self._stamp = stamp
            raise
        self._stamp = stamp
        return found


def _stamp(path: Path) -> tuple[int, ...]:
    """What is another for each new file and after each write; nothing where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def key_source(path: Path, choose: Callable[[KeyFile], Keyring]) -> KeySource:
    """The keys of a process, of which `choose` says whose it is; changes of the file count. Raises KeysError."""
    changed = ChangedKeys(path)
    return KeySource(choose(load_keys(path)), changed)


Keys = KeySource | Keyring | Path | str
"""Keys, or the key file to read them from."""


def keys_of(keys: Keys | None, *roles: KeyRole) -> KeySource | None:
    """The keys of a dialling process, whose key file has one secret key of these roles. None for none.

    Raises KeysError.
    """
    if isinstance(keys, Path | str):
        return key_source(Path(keys), lambda file: file.only(*roles))
    return source_of(keys)


@dataclass(frozen=True, slots=True)
class Made:
    """What `init_keys` did: whose keys are new, and whose were there already."""

    new: tuple[Principal, ...]
    kept: tuple[Principal, ...]


def init_keys(folder: Path, everybody: Sequence[Principal]) -> Made:
    """Make the keys that are missing. No key is ever replaced, also where two do this at the same time. Raises OSError.

    A principal that is in the public list but whose secret is not here has it elsewhere: nothing is made for it.
    Raises KeysError where a file that is there is damaged.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with locked(folder):
        before = public_keys(folder)
        listed = dict(before)
        new = [owner for owner in everybody if _list(folder, owner, listed)]
        if listed != before:
            write_public(folder, listed)
    return Made(tuple(new), tuple(owner for owner in everybody if owner not in new))


def _list(folder: Path, owner: Principal, listed: dict[Principal, tuple[str, ...]]) -> bool:
    """Put a principal into the list if it is not there; whether a key was made for that."""
    if owner in listed:
        return False
    path = secret_path(folder, owner)
    made = not path.exists() and _write_new(path, secret_text(owner, make_pair()))
    listed[owner] = (own_pair(folder, owner).public,)
    return made


def public_keys(folder: Path) -> Mapping[Principal, tuple[str, ...]]:
    """The public list of a key folder, empty where there is none yet. Raises KeysError where it is damaged."""
    path = folder / PUBLIC_FILE
    return _reached(path).public if path.exists() else {}


def own_pair(folder: Path, owner: Principal) -> KeyPair:
    """The pair in a principal's secret file. Raises KeysError where it is not there."""
    path = secret_path(folder, owner)
    pair = _reached(path).own.get(owner)
    if pair is None:
        raise KeysError(f"{path}: expected the secret key of {owner}, there is none")
    return pair


def secret_text(owner: Principal, pair: KeyPair) -> str:
    """What a principal's secret file says."""
    return f"# The secret key of {owner}.\n" + own_line(owner, pair)


def write_public(folder: Path, listed: Mapping[Principal, tuple[str, ...]]) -> None:
    """Replace the public list of a key folder."""
    text = PUBLIC_HEAD + public_lines(listed, sorted(listed))
    replace_file(folder / PUBLIC_FILE, text, PUBLIC_MODE)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One change of a key folder at a time; others wait."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def export_keys(folder: Path, owners: Sequence[Principal], out: Path, *, replace: bool = False) -> None:
    """Write one file with the secret keys of `owners` and the public keys that they need.

    Raises KeysError where a key is not in the folder, or where `out` exists and is not to be replaced. Raises OSError.
    """
    text = exported_text(load_keys(folder), owners)
    if replace:
        replace_file(out, text)
    elif not _write_new(out, text):
        raise KeysError(f"{out} exists and was left as it is: expected the name of a new file, or --replace")


def exported_text(keys: KeyFile, owners: Sequence[Principal]) -> str:
    """The file for a process that is `owners`: their secret keys, and the public keys that they need.

    Raises KeysError where one has no key.
    """
    rings = [keys.keyring(owner) for owner in owners]
    known = sorted({other for owner in owners for other in acquaintances(owner, keys.public)})
    text = "".join(own_line(ring.owner, ring.pair) for ring in rings) + public_lines(keys.public, known)
    head = f"# Keys of {', '.join(map(str, owners))}: whoever has this file is taken for that.\n"
    return head + text


def _write_new(path: Path, text: str) -> bool:
    """Make a file with mode 0600, whole or not at all; False where there is one."""
    fresh = _fresh(path, text)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True


def replace_file(path: Path, text: str, mode: int = SECRET_MODE) -> None:
    """Write a file in place of one that may be there, whole or not at all."""
    fresh = _fresh(path, text)
    fresh.chmod(mode)
    fresh.replace(path)


def _fresh(path: Path, text: str) -> Path:
    """A new file beside `path` that only its owner may read."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)
