"""The connections of a client: one to its partition's kernel, one to each NX unit it pastes to.

Several paste connections are open at a time, so a connection is named by a key: `device`, or `paste:` and the
unit's endpoint.
"""

from __future__ import annotations

from protocol.link import LINKS, Link

DEVICE_KEY = "device"
_PASTE = "paste:"
ENDPOINT_RULE = "expected ipc:///path/of/a/socket or tcp://host:port"


def paste_key(endpoint: str) -> str:
    """The key of the connection to an NX unit."""
    return _PASTE + endpoint


def link_of(key: str) -> Link:
    """The kind of connection behind a key: whose messages it carries and how many may queue."""
    return LINKS[key.partition(":")[0]]
