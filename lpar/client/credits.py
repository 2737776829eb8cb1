"""The partition's credit counters, as a program reads them from sysfs. Procedures only."""

from __future__ import annotations

from dataclasses import dataclass

from lpar.client.errors import MessageRefused, PeerError
from lpar.client.steps import Procedure
from lpar.client.system_calls import read_file

CREDITS_PATH = "/sys/devices/virtual/misc/vas/vas0/gzip/{kind}_capabilities/{file}"


@dataclass(frozen=True, slots=True)
class Credits:
    """Credits of one type: assigned to the partition, and held by its windows, closed ones included."""

    total: int
    used: int


def read_credits(*, qos: bool, timeout_us: int) -> Procedure[Credits | None]:
    """Both counters; None where they cannot be read, which libnxz takes for a system without credits."""
    try:
        total = yield from _number("nr_total_credits", qos, timeout_us)
        used = yield from _number("nr_used_credits", qos, timeout_us)
    except (OSError, MessageRefused, PeerError, ValueError):
        return None
    return Credits(total, used)


def _number(file: str, qos: bool, timeout_us: int) -> Procedure[int]:
    text = yield from read_file(CREDITS_PATH.format(kind="qos" if qos else "default", file=file), timeout_us)
    return int(text)
