"""Which of the named networks this program is on: processes may be reached at another endpoint on each."""

from __future__ import annotations

import os

from protocol.message import LOCAL_NETWORK, NAME_RULE, is_name

NETWORK_VARIABLE = "VASBUS_NETWORK"
"""The environment variable that names it."""


def network_of(network: str | None) -> str:
    """The network that is named, else that of the environment, else `local`. Raises ValueError for what is no name."""
    found = (os.environ.get(NETWORK_VARIABLE) or LOCAL_NETWORK) if network is None else network
    if not is_name(found):
        raise ValueError(f"expected the name of a network ({NAME_RULE}), came {found[:80]!r}")
    return found
