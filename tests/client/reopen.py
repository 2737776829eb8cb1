"""What the tests of libnxz's way share: users of it, and what makes credits and pastes short."""

from __future__ import annotations

from lpar.client import Lpar, NxGzip
from lpar.client.accelerator import AcceleratorSettings, OnSuspend
from protocol import device_messages as device
from tests.client.kernel import TOTAL, USED
from tests.client.world import World

MINUTE_US = 60_000_000
SETTINGS = AcceleratorSettings(
    OnSuspend.REOPEN, False, -1, MINUTE_US, 5 * MINUTE_US, 5 * MINUTE_US, 5 * MINUTE_US
)  # fmt: skip
NEVER = 1 << 30


def reopening(lpar: Lpar, mode: str = "auto", **more: float) -> NxGzip:
    return NxGzip(lpar, mode, "reopen", **more)  # type: ignore[arg-type]


def credits_are(world: World, total: int, used: int) -> None:
    """What sysfs says from now on, whatever the kernel holds."""
    world.kernel.odd_files.update({TOTAL: f"{total}\n", USED: f"{used}\n"})


def refuse_pastes(world: World, count: int = NEVER) -> None:
    world.nx0.refuse_next = world.nx1.refuse_next = count


def moments_of_opens(world: World) -> list[int]:
    """When the kernel is asked for a window from now on, in microseconds."""
    moments: list[int] = []

    def note(_key: str, envelope: object) -> None:
        if isinstance(getattr(envelope, "body", None), device.TxWinOpen):
            moments.append(world.now_us)

    world.before_delivery = note
    return moments
