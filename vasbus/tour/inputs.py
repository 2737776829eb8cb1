"""What the tour compresses: real files, by default the sources of Python's standard library."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_MEGABYTES = 50
MEGABYTE = 1_000_000
FILE_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files, and how often to go through them."""

    paths: tuple[Path, ...]
    sizes: tuple[int, ...]
    rounds: int

    @property
    def bytes_per_round(self) -> int:
        return sum(self.sizes)

    def shares(self, count: int) -> list[list[str]]:
        """The files dealt out to `count` processes so that each gets about as many bytes."""
        hands: list[list[str]] = [[] for _ in range(count)]
        weights = [0] * count
        for size, path in sorted(zip(self.sizes, self.paths, strict=True), reverse=True):
            lightest = weights.index(min(weights))
            hands[lightest].append(str(path))
            weights[lightest] += size
        return hands


def find_inputs(folder: Path | None, megabytes: int = DEFAULT_MEGABYTES) -> Inputs:
    """Every regular file below `folder`, or Python's sources, as often as makes `megabytes` in all.

    Raises ValueError where there is nothing to read.
    """
    root = folder or Path(sysconfig.get_path("stdlib"))
    pattern = "*" if folder else "*.py"
    found = [(path, path.stat().st_size) for path in sorted(root.rglob(pattern)) if _usable(path)]
    total = sum(size for _, size in found)
    if not total:
        raise ValueError(f"no readable file with content in {root}")
    return Inputs(_paths(found), tuple(size for _, size in found), -(-megabytes * MEGABYTE // total))


def _usable(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and 0 < path.stat().st_size <= FILE_LIMIT_BYTES
    except OSError:
        return False


def _paths(found: Sequence[tuple[Path, int]]) -> tuple[Path, ...]:
    return tuple(path for path, _ in found)
