"""What a script may hand to the console, checked before it becomes a message. Pure."""

from __future__ import annotations

from protocol.message import NAME_RULE, is_name

AMOUNT_LEAST, AMOUNT_MOST = -0x8000_0000, 0x7FFF_FFFF
WAIT_MOST_S = 0xFFFF_FFFF // 1000
"""Amounts and milliseconds have 32 bits in a message, amounts one of them for the sign."""
SHOWN_CHARACTERS = 60


class BadArgument(ValueError):
    """A parameter of the console cannot be what it is for; the text names it, what was expected and what came."""

    def __init__(self, name: str, expected: str, came: object) -> None:
        super().__init__(f"{name}: expected {expected}, came {shown(came)}")


def shown(value: object) -> str:
    """A value for people, however long it is."""
    return f"{value!r:.{SHOWN_CHARACTERS}}"


def partition(lpar: str) -> str:
    """A partition's name. Raises BadArgument, TypeError."""
    _check_type("lpar", lpar, str, "a partition's name")
    if not is_name(lpar):
        raise BadArgument("lpar", NAME_RULE, lpar)
    return lpar


def amount(name: str, value: int) -> int:
    """Cores, hundredths, credits. Raises BadArgument where a message has no room for it, TypeError."""
    _check_type(name, value, int, "a whole number")
    if not AMOUNT_LEAST <= value <= AMOUNT_MOST:
        raise BadArgument(name, f"{AMOUNT_LEAST} to {AMOUNT_MOST}", value)
    return value


def milliseconds(name: str, seconds: float, most_s: float = WAIT_MOST_S) -> int:
    """A time to wait, of at most `most_s`. Raises BadArgument, TypeError."""
    _check_type(name, seconds, (int, float), "seconds as a number")
    if not 0 <= seconds <= most_s:
        raise BadArgument(name, f"0 to {most_s:.0f} seconds", seconds)
    return int(seconds * 1000)


def flag(name: str, value: bool) -> bool:
    """Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, came {shown(value)}")
    return value


def _check_type(name: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """True and False are numbers only by accident."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name}: expected {expected}, came {shown(value)}")
