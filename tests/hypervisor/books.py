"""The model that the state machine keeps beside the hypervisor: tokens in plain lists."""

from __future__ import annotations

from protocol.codes import CreditType
from protocol.hcall_messages import WindowAllocated

CORES = 8
QOS_TOTAL = 6


class Books:
    """What the partitions should have: a token in a list for every core, hundredth and credit. Shares no code."""

    def __init__(self) -> None:
        self.cores = {"lp1": ["core"] * 2, "lp2": ["core"] * 2, "lp3": []}
        self.hundredths = {"lp1": [], "lp2": [], "lp3": ["hundredth"] * 80}
        self.qos: dict[str, list[str]] = {"lp1": [], "lp2": [], "lp3": []}
        self.live: dict[str, dict[int, tuple[WindowAllocated, CreditType, str]]] = {"lp1": {}, "lp2": {}, "lp3": {}}
        self.dead: set[int] = set()
        self.returned: list[WindowAllocated] = []
        self.pasted: dict[int, int] = {}
        """By window, the number of its last paste."""
        self.fetched: dict[int, list[int]] = {}
        """By window, the numbers of the faults that its kernel has fetched."""

    def credits(self, lpar: str, credit_type: CreditType) -> list[str]:
        """The pool: three credits for a core, three for a hundred hundredths, less one for each QoS credit."""
        if credit_type is CreditType.QOS:
            return self.qos[lpar]
        whole = ["credit" for _ in self.cores[lpar] for _ in range(3)]
        parts = ["credit" for third in range(len(self.hundredths[lpar]) * 3) if third % 100 == 99]
        return (whole + parts)[len(self.qos[lpar]) :]

    def spare_hundredths(self) -> int:
        taken = sum(100 for cores in self.cores.values() for _ in cores) + sum(map(len, self.hundredths.values()))
        return CORES * 100 - taken

    def spare_qos(self) -> int:
        return QOS_TOTAL - sum(len(credits) for credits in self.qos.values())

    def bury(self, lpar: str) -> None:
        self.dead |= self.live[lpar].keys()
        self.live[lpar] = {}
