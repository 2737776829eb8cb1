"""What the tour tells its client processes and what they report: one JSON line each way."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Line(BaseModel):
    """One line between the tour and a client process."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Open(Line):
    """Open `count` more windows and map them."""

    order: Literal["open"] = "open"
    count: int


class Close(Line):
    """Close the newest `count` windows."""

    order: Literal["close"] = "close"
    count: int


class Compress(Line):
    """Compress, decompress and compare every file, `rounds` times, on all windows in turn."""

    order: Literal["compress"] = "compress"
    paths: list[str]
    rounds: int


class Work(Line):
    """Go on compressing until `Rest` comes."""

    order: Literal["work"] = "work"
    paths: list[str]


class Rest(Line):
    """End the work. The reply is the work's; this order has none of its own."""

    order: Literal["rest"] = "rest"


class Report(Line):
    """Tell what each window has done."""

    order: Literal["report"] = "report"


class Quit(Line):
    """Close everything and end."""

    order: Literal["quit"] = "quit"


Order = Open | Close | Compress | Work | Rest | Report | Quit
ORDERS: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="order")])


class Attempt(Line):
    """One attempt to open a window: its id, or the errno, the kernel's reason and the hcall's code."""

    window_id: int = 0
    errno: str = ""
    reason: str = ""
    hcall: str = ""


class WindowReport(Line):
    """One window as its owner sees it. Bytes are those put in, for compression and decompression together."""

    window_id: int
    unit: str
    nx_bytes: int
    software_bytes: dict[str, int]
    pastes: int
    refused: int
    faults: int
    remaps: int


class Reply(Line):
    """What a client process did. `seen` are messages as it sent and received them; `failure` ends the tour."""

    pid: int
    attempts: list[Attempt] = []
    windows: list[WindowReport] = []
    files: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    seen: list[str] = []
    failure: str = ""
