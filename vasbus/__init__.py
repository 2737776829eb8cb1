"""vasbus: PowerVM accelerator credits on a message bus. These are the names for scripts.

`vasbus.aio` has them for asyncio. A name is fetched when it is first asked for: the processes of a system start sooner
without a client's modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from hmc import Console, ConsoleClosed, ConsoleRefused, ConsoleUnreachable, OutcomeUnknown
    from lpar.client import (
        BusError,
        ClientError,
        CodecMissing,
        CorruptData,
        Csb,
        DataError,
        DeviceFile,
        DirectionStatistics,
        FileForbidden,
        FileMissing,
        ForkedProcess,
        KernelFailure,
        Lpar,
        LparClosed,
        MessageRefused,
        NxError,
        NxGzip,
        OutputLimit,
        PasteArea,
        PasteRefused,
        PeerError,
        Pending,
        Request,
        RequestLost,
        SegmentationFault,
        Statistics,
        TruncatedData,
        Window,
        WindowExists,
    )
    from vasbus import aio

__all__ = [
    "BusError",
    "ClientError",
    "CodecMissing",
    "Console",
    "ConsoleClosed",
    "ConsoleRefused",
    "ConsoleUnreachable",
    "CorruptData",
    "Csb",
    "DataError",
    "DeviceFile",
    "DirectionStatistics",
    "FileForbidden",
    "FileMissing",
    "ForkedProcess",
    "KernelFailure",
    "Lpar",
    "LparClosed",
    "MessageRefused",
    "NxError",
    "NxGzip",
    "OutcomeUnknown",
    "OutputLimit",
    "PasteArea",
    "PasteRefused",
    "PeerError",
    "Pending",
    "Request",
    "RequestLost",
    "SegmentationFault",
    "Statistics",
    "TruncatedData",
    "Window",
    "WindowExists",
    "aio",
]


CONSOLE_NAMES = frozenset(("Console", "ConsoleClosed", "ConsoleRefused", "ConsoleUnreachable", "OutcomeUnknown"))


def __getattr__(name: str) -> object:
    """Fetch one of the names, or `__version__`, the installed release. Raises AttributeError for any other."""
    if name == "__version__":
        return import_module("importlib.metadata").version("vasbus")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "hmc" if name in CONSOLE_NAMES else "lpar.client"
    value = import_module("vasbus.aio") if name == "aio" else getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
