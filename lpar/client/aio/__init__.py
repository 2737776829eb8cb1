"""The client library for asyncio: the names of `lpar.client`, with calls to be awaited."""

from lpar.client.aio.handles import DeviceFile, PasteArea, Pending, Window
from lpar.client.aio.nx_gzip import NxGzip
from lpar.client.aio.process import Lpar
from lpar.client.errors import (
    BusError,
    ClientError,
    CodecMissing,
    CorruptData,
    DataError,
    FileForbidden,
    FileMissing,
    ForkedProcess,
    KernelFailure,
    LparClosed,
    MessageRefused,
    NxError,
    OutputLimit,
    PasteRefused,
    PeerError,
    RequestLost,
    SegmentationFault,
    TruncatedData,
    WindowExists,
)
from lpar.client.request import Csb, Request
from lpar.client.statistics import DirectionStatistics, Statistics

__all__ = [
    "BusError",
    "ClientError",
    "CodecMissing",
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
]
