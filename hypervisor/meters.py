"""What the hypervisor counts about hcalls. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from protocol.codes import HcallCode
from protocol.metrics import Histogram


@dataclass(slots=True)
class HcallMeter:
    """Answered hcalls by name and return code, and by name how long they took from their arrival to their answer.

    Those put off with RETRY count when they are answered, from the arrival of the repeat that was carried out.
    """

    answers: Counter[tuple[str, HcallCode]] = field(default_factory=Counter)
    durations: dict[str, Histogram] = field(default_factory=dict)

    def count(self, hcall: str, code: HcallCode, duration_us: int) -> None:
        """One answer, `duration_us` after the hcall arrived."""
        self.answers[hcall, code] += 1
        self.durations.setdefault(hcall, Histogram()).observe(duration_us)
