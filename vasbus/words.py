"""Amounts in words for people. Pure."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 core`, `2 cores`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def processors(mode: str, cores: int, hundredths: int) -> str:
    """What a partition has, in a few characters."""
    return counted(cores, "core") if mode == "dedicated" else f"{hundredths / 100:.2f} shared"
