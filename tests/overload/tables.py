"""How much a core holds: the entries of every table below an object, by its path, whatever it is called."""

from __future__ import annotations

import types
from collections import Counter, deque
from collections.abc import Iterator
from enum import Enum

CONTAINERS = (dict, list, set, frozenset, deque, tuple)
ROOMS = ("hypervisor", "lpar", "nxunit", "protocol", "tests")
DEPTH_MOST = 40


def sizes(root: object) -> Counter[str]:
    """Entries by path. What is in a table counts below the one path of all its entries, an object where first met."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    queue: deque[tuple[str, object, int]] = deque([("", root, 0)])
    while queue:
        path, value, depth = queue.popleft()
        if id(value) in seen or depth > DEPTH_MOST:
            continue
        if isinstance(value, CONTAINERS):
            seen.add(id(value))
            if not isinstance(value, tuple):
                found[path] += len(value)
            entries = [*value.values()] if isinstance(value, dict) else list(value)
            queue.extend((f"{path}[]", entry, depth + 1) for entry in entries)
        elif type(value).__module__.partition(".")[0] in ROOMS and not isinstance(value, Enum):
            seen.add(id(value))
            queue.extend((f"{path}.{name}", entry, depth + 1) for name, entry in attributes(value))
        elif isinstance(value, types.MethodType):
            queue.append((f"{path}<self>", value.__self__, depth + 1))
    return found


def attributes(value: object) -> Iterator[tuple[str, object]]:
    """What an object has, in its dictionary and its slots."""
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(value, name):
                yield name, getattr(value, name)
