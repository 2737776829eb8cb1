"""The connections of a client: one to its partition's kernel, one to each NX unit it pastes to.

Several paste connections are open at a time, so a connection is named by a key: `device`, or `paste:` and the
unit's endpoint.
"""

from __future__ import annotations

import errno

from protocol.endpoint import ENDPOINT_RULE
from protocol.keys import KeysError
from protocol.link import LINKS, Link

DEVICE_KEY = "device"
_PASTE = "paste:"


def paste_key(endpoint: str) -> str:
    """The key of the connection to an NX unit."""
    return _PASTE + endpoint


def link_of(key: str) -> Link:
    """The kind of connection behind a key: whose messages it carries and how many may queue."""
    return LINKS[key.partition(":")[0]]


def dial_failure(endpoint: str, error: Exception) -> OSError:
    """What the callers of an endpoint that cannot be dialled get: it is no endpoint, or there is no key for it."""
    if isinstance(error, KeysError):
        return PermissionError(errno.EACCES, f"cannot dial {endpoint}: {error}")
    number, reason = getattr(error, "errno", errno.EINVAL), getattr(error, "strerror", error)
    return OSError(number, f"cannot dial {endpoint!r}: {reason}: {ENDPOINT_RULE}")


def no_connection(error: Exception) -> OSError:
    """What they get where the connection does not come about because of the keys."""
    return PermissionError(errno.EACCES, str(error))
