"""Dealing keys out: one file for each process, made or brought up to date, as often as one likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.key_files import SECRET_MODE, exported_text, load_keys, replace_file
from protocol.keys import KeyFile, KeysError, Principal


@dataclass(frozen=True, slots=True)
class Target:
    """Whose keys go where."""

    owners: tuple[Principal, ...]
    file: Path


@dataclass(frozen=True, slots=True)
class Dealt:
    """The files that were written, and those that said the same already."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def parse_owners(text: str) -> tuple[Principal, ...]:
    """Principals with commas between them. Raises KeysError."""
    return tuple(dict.fromkeys(Principal.parse(word) for word in text.split(",")))


def parse_targets(words: Sequence[str]) -> list[Target]:
    """OWNERS=FILE words. Raises KeysError for anything else, and where two name one file."""
    targets: list[Target] = []
    for word in words:
        owners, separator, file = word.partition("=")
        if not separator or not file:
            raise KeysError(f"expected OWNERS=FILE, such as hypervisor,observer=own.keys, came {word!r}")
        target = Target(parse_owners(owners), Path(file))
        if any(target.file == other.file for other in targets):
            raise KeysError(f"expected each file once, {target.file} came twice: one file may have several owners")
        targets.append(target)
    return targets


def deal_keys(folder: Path, targets: Sequence[Target]) -> Dealt:
    """Write the files that are not there or say something else than the key folder.

    A file that is there has to be a key file with no other secrets. Raises KeysError before anything is written where
    that or a key is missing, and where a file cannot be written.
    """
    keys = load_keys(folder)
    texts = [(target, exported_text(keys, target.owners)) for target in targets]
    stale = [(target, text) for target, text in texts if not _says(target, text)]
    for target, text in stale:
        try:
            replace_file(target.file, text)
        except OSError as error:
            raise KeysError(
                f"cannot write {target.file} for {_names(target.owners)}: {error.strerror or error}; expected a folder "
                "that this user may write to"
            ) from None
    written = tuple(target.file for target, _ in stale)
    return Dealt(written, tuple(target.file for target in targets if target.file not in written))


def _says(target: Target, text: str) -> bool:
    """Whether the file is there with this text and mode. Raises KeysError where it is something else of value."""
    try:
        if target.file.read_text() == text:
            return target.file.stat().st_mode & 0o777 == SECRET_MODE
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"cannot read {target.file}: {error}; it was left as it is") from None
    there = _owners(target.file)
    if not there.own.keys() <= set(target.owners):
        expected = f"expected none, or the keys of {_names(target.owners)}"
        raise KeysError(f"{target.file} has the keys of {_names(sorted(there.own))} and was left as it is: {expected}")
    return False


def _owners(file: Path) -> KeyFile:
    try:
        return load_keys(file)
    except KeysError as error:
        raise KeysError(f"{error}; it was left as it is: remove it if it is not needed") from None


def _names(owners: Sequence[Principal]) -> str:
    return ", ".join(map(str, owners))
