"""Keys as text: 32 bytes in the alphabet of ZeroMQ's RFC 32. Pure."""

from __future__ import annotations

KEY_CHARACTERS = 40
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGITS = {character: value for value, character in enumerate(ALPHABET)}


def is_key(text: str) -> bool:
    """Whether it is 32 bytes in Z85."""
    if len(text) != KEY_CHARACTERS or any(character not in _DIGITS for character in text):
        return False
    return all(_value(text[at : at + 5]) < 1 << 32 for at in range(0, KEY_CHARACTERS, 5))


def _value(part: str) -> int:
    value = 0
    for character in part:
        value = value * len(ALPHABET) + _DIGITS[character]
    return value
