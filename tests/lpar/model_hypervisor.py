"""The hypervisor of the kernel's model: domain.md 1 and 5.1, as far as window lists depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field

QOS, DEFAULT = "qos", "default"


class HcallFailed(Exception):
    """An hcall did not return H_SUCCESS."""


@dataclass
class Hypervisor:
    """Grants windows below its target, where it `enforces` that, numbers them from 1, and remembers every hcall."""

    target: dict[str, int]
    enforces: bool = True
    windows: dict[int, str] = field(default_factory=dict)
    granted: int = 0
    calls: list[tuple[object, ...]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    failing: dict[str, int] = field(default_factory=dict)
    """Which of the coming hcalls fails: by its kind, how many of that kind succeed before."""

    def query(self, kind: str) -> int:
        self.queries.append(kind)
        self._may_fail("query")
        return self.target[kind]

    def allocate(self, kind: str) -> int:
        self.calls.append(("allocate", kind))
        self._may_fail("allocate")
        in_use = sum(held == kind for held in self.windows.values())
        if self.enforces and in_use >= self.target[kind]:
            raise HcallFailed
        self.granted += 1
        self.windows[self.granted] = kind
        return self.granted

    def modify(self, window_id: int, pid: int) -> None:
        self.calls.append(("modify", window_id, pid))
        self._may_fail("modify")

    def deallocate(self, window_id: int) -> None:
        self.calls.append(("deallocate", window_id))
        self._may_fail("deallocate")
        del self.windows[window_id]

    def _may_fail(self, hcall: str) -> None:
        left = self.failing.get(hcall)
        if left == 0:
            del self.failing[hcall]
            raise HcallFailed
        if left is not None:
            self.failing[hcall] = left - 1
