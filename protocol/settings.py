"""Tables of the system file: what all have in common. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from protocol.codes import CREDIT_MAX
from protocol.toml_lines import Steps

Count = Annotated[int, Field(strict=True, ge=0, le=CREDIT_MAX)]
INCONSISTENT = "inconsistent"


def inconsistent(problem: str, *blamed: Steps) -> PydanticCustomError:
    """Values that are right one by one do not fit together. `blamed` are the keys to look at, the likeliest first.

    They are relative to the table that is checked; the first one that is written in the file is named.
    """
    return PydanticCustomError(INCONSISTENT, "{problem}", {"problem": problem, "blamed": blamed})


class Settings(BaseModel):
    """A frozen table of the file. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)


def unique(what: str, values: Sequence[tuple[str, Steps]]) -> None:
    """The second use of a value is the one to blame."""
    seen: set[str] = set()
    for value, steps in values:
        if value in seen:
            raise inconsistent(f"the {what} {value} is used twice", steps)
        seen.add(value)
