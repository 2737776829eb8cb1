"""Start-up: pseries_vas_init, and the NX driver's query of the accelerator's limits. Source: domain.md 2.1."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.hcall import HcallReturn
from lpar.pool import FEATURE
from lpar.sysfs import FileTree, add_nx_capabilities, add_vas_capabilities
from lpar.window import WINDOW_CREDITS
from protocol.codes import (
    NX_FEATURE_GZIP,
    USER_MODE_COPY_PASTE,
    VAS_FEATURE_DEFAULT,
    VAS_FEATURE_QOS,
    CreditType,
    HcallCode,
    NxQuery,
    VasQuery,
)
from protocol.hcall_messages import (
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    NxFeatureCapabilities,
    NxOverallCapabilities,
    VasFeatureCapabilities,
    VasOverallCapabilities,
)

FEATURE_BITS = ((CreditType.QOS, VAS_FEATURE_QOS), (CreditType.DEFAULT, VAS_FEATURE_DEFAULT))


class BootStage(Enum):
    """Which query a boot waits for."""

    NX_OVERALL = auto()
    NX_GZIP = auto()
    VAS_OVERALL = auto()
    VAS_FEATURE = auto()
    FINISHED = auto()


class Boot(Operation):
    """Asks for capabilities and sets totals. Without VAS in the hypervisor the partition runs on without the device."""

    def __init__(
        self, driver: VasDriver, files: FileTree, done: Callable[[int], None], *, dynamic_qos: bool = True
    ) -> None:
        super().__init__(driver)
        self.files = files
        self.dynamic_qos = dynamic_qos
        self._done = done
        self._features: deque[CreditType] = deque()

    def start(self, now_us: int) -> None:
        self.begin()
        self.hcall(BootStage.NX_OVERALL, HQueryNxCapabilities(query_type=NxQuery.OVERALL), now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        if not answer.succeeded and answer.code is not HcallCode.H_FUNCTION:
            self.driver.note("error", "capabilities_query_failed", why=answer.words)
        reply = answer.reply if answer.succeeded else None
        if self.stage is BootStage.NX_OVERALL:
            if isinstance(reply, NxOverallCapabilities) and reply.feature_types & NX_FEATURE_GZIP:
                self.hcall(BootStage.NX_GZIP, HQueryNxCapabilities(query_type=NxQuery.GZIP), now_us)
            else:
                self._query_vas(now_us)
        elif self.stage is BootStage.NX_GZIP:
            if isinstance(reply, NxFeatureCapabilities):
                self.driver.nx_limits = reply
                add_nx_capabilities(self.files, reply)
            self._query_vas(now_us)
        elif self.stage is BootStage.VAS_OVERALL:
            features = reply.feature_types if isinstance(reply, VasOverallCapabilities) else 0
            self._features.extend(credit_type for credit_type, bit in FEATURE_BITS if features & bit)
            self._next_feature(now_us)
        elif isinstance(reply, VasFeatureCapabilities) and self._accept(reply):
            self._next_feature(now_us)
        else:
            self.driver.copy_paste = False
            self._finish(now_us)

    def _query_vas(self, now_us: int) -> None:
        self.hcall(BootStage.VAS_OVERALL, HQueryVasCapabilities(query_type=VasQuery.OVERALL), now_us)

    def _next_feature(self, now_us: int) -> None:
        if self._features:
            query = HQueryVasCapabilities(query_type=FEATURE[self._features[0]])
            self.hcall(BootStage.VAS_FEATURE, query, now_us)
        else:
            self._finish(now_us)

    def _accept(self, capabilities: VasFeatureCapabilities) -> bool:
        """Take over a type's credits; False where the kernel could not use such windows (get_vas_capabilities)."""
        credit_type = self._features.popleft()
        problem = ""
        if not capabilities.user_mode & USER_MODE_COPY_PASTE:
            problem = "user-mode copy/paste is not offered"
        elif capabilities.window_type is not credit_type:
            problem = f"window type {capabilities.window_type:d} in the answer for type {credit_type:d}"
        elif credit_type is CreditType.DEFAULT and capabilities.max_window_credits < WINDOW_CREDITS:
            problem = f"{capabilities.max_window_credits} credits per window, {WINDOW_CREDITS} needed"
        if problem:
            self.driver.note("error", "capabilities_unusable", type=credit_type.name.lower(), why=problem)
            return False
        pool = self.driver.pools[credit_type]
        pool.present, pool.total = True, capabilities.target_lpar_credits
        self.driver.copy_paste = True
        add_vas_capabilities(self.files, self.driver, credit_type, dynamic_qos=self.dynamic_qos)
        return True

    def _finish(self, now_us: int) -> None:
        self.stage = BootStage.FINISHED
        totals = {pool.credit_type.name.lower(): pool.total for pool in self.driver.pools.values() if pool.present}
        self.driver.note("info", "booted", copy_paste=self.driver.copy_paste, totals=totals)
        self._done(now_us)
        self.end()
