"""What the system file says of partitions: the named ones, and the slots of a template for whoever dials in. Pure.

Entitled capacity is in hundredths of a processor.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.message import NAME_PATTERN, Name
from protocol.settings import Count, Settings, inconsistent

HUNDREDTHS_PER_CORE = 100
MINIMUM_HUNDREDTHS = 5
"""The least entitled capacity of a shared partition: one credit at 20 per core."""


class ProcessorMode(StrEnum):
    DEDICATED = "dedicated"
    SHARED = "shared"


class LparSettings(Settings):
    """One partition: `cores` where dedicated, `hundredths` where shared."""

    name: Name
    mode: ProcessorMode = ProcessorMode.DEDICATED
    cores: Annotated[int, Field(strict=True, ge=0, le=1_000)] = 0
    hundredths: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 0
    home_chip: Annotated[int, Field(strict=True, ge=0, le=255)] = 0
    qos_credits: Count = 0
    dynamic_qos: Annotated[bool, Field(strict=True)] = True
    """Whether the operating system takes QoS credits while it runs; without, the HMC answers HSCLC102."""
    bad_citizen: Annotated[bool, Field(strict=True)] = False
    """Whether the kernel keeps windows for which it has no credit any more, against what the hypervisor expects."""

    @model_validator(mode="after")
    def _fits_mode(self) -> Self:
        if self.mode is ProcessorMode.DEDICATED and (self.cores < 1 or self.hundredths):
            key = "cores" if self.cores < 1 else "hundredths"
            raise inconsistent("a dedicated partition has cores = 1 or more and no hundredths", (key,))
        if self.mode is ProcessorMode.SHARED and (self.hundredths < MINIMUM_HUNDREDTHS or self.cores):
            key = "cores" if self.cores else "hundredths"
            problem = f"a shared partition has hundredths = {MINIMUM_HUNDREDTHS} or more and no cores"
            raise inconsistent(problem, (key,))
        return self

    @property
    def capacity_hundredths(self) -> int:
        """What of the chips' processors it takes."""
        return self.cores * HUNDREDTHS_PER_CORE + self.hundredths


SLOTS_LIMIT = 999


class SlotSettings(LparSettings):
    """The template of partitions that have no process of their own: whoever dials in claims a free one, a slot.

    `name` is the template's; the slots are called `name-01`, `name-02` and so on, `name-100` and on with three digits.
    """

    name: Annotated[str, Field(strict=True, pattern=NAME_PATTERN, max_length=59)]
    count: Annotated[int, Field(strict=True, ge=1, le=SLOTS_LIMIT)]

    @property
    def slots(self) -> tuple[LparSettings, ...]:
        """Every slot as a partition of its own, the lowest first."""
        return _slots_of(self)

    def check_room(self, hundredths: int, qos_credits: int) -> None:
        """Raises PydanticCustomError where not all slots fit into what the named partitions leave; says how many do."""
        wanted = ((self.capacity_hundredths, hundredths), (self.qos_credits, qos_credits))
        fitting = min(left // each for each, left in wanted if each)
        if fitting >= self.count:
            return
        qos = f" and {self.qos_credits} QoS credits" if self.qos_credits else ""
        left = f"{hundredths} hundredths" + (f" and {qos_credits} QoS credits" if self.qos_credits else "")
        raise inconsistent(
            f"{self.count} slots of {self.capacity_hundredths} hundredths of a processor{qos} each do not fit: the "
            f"named partitions leave {left}, enough for {fitting} of them",
            ("slots", "count"),
        )


@lru_cache(maxsize=4)
def _slots_of(template: SlotSettings) -> tuple[LparSettings, ...]:
    common = template.model_dump(exclude={"count"})
    names = (f"{template.name}-{number:02d}" for number in range(1, template.count + 1))
    return tuple(LparSettings.model_validate({**common, "name": name}) for name in names)
