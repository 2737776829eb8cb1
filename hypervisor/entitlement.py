"""From processor entitlement to credits (domain: 20 per dedicated core; shared: entitled capacity x 20)."""

from __future__ import annotations

from protocol.codes import CREDIT_MAX
from protocol.system import HUNDREDTHS_PER_CORE, QosRule

MAX_WINDOW_CREDITS = 1
"""Requests in flight on one window: always 1 on PowerVM."""


def entitled_credits(cores: int, hundredths: int, credits_per_core: int) -> int:
    """Credits that an entitlement is worth, rounded down (no source says how PowerVM rounds)."""
    capacity = cores * HUNDREDTHS_PER_CORE + hundredths
    return min(capacity * credits_per_core // HUNDREDTHS_PER_CORE, CREDIT_MAX)


def default_target(entitled: int, qos_credits: int, rule: QosRule) -> int:
    """Default credits of a partition, given its QoS credits."""
    return max(0, entitled - qos_credits) if rule is QosRule.LPAR else entitled
