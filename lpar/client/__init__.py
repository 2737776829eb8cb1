"""User space on a partition: the interface as its kernel gives it (`Lpar`), and gzip on top of it (`NxGzip`)."""

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
from lpar.client.handles import DeviceFile, PasteArea, Pending, Window
from lpar.client.nx_gzip import NxGzip
from lpar.client.process import Lpar
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
