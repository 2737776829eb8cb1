"""H_SET_PPP: a shared-processor partition sets its own entitled capacity. Pure. Source: domain.md 5.6.

Which code the real hypervisor gives for which fault is not public. Here: H_PARAMETER for what this partition can
never have, H_BUSY while its kernel has a change of the console to apply, H_RESOURCE for what the system has not got.
It never gives less than was asked for, so H_CONSTRAINED does not come.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.configuration import Configurations
from hypervisor.ledger import Ledger, Partition
from protocol.codes import CreditType, HcallCode
from protocol.hcall_messages import HcallStatus, HSetPpp
from protocol.system import MINIMUM_HUNDREDTHS, ProcessorMode


@dataclass(slots=True)
class ProcessorParameters:
    """Carries H_SET_PPP out. The uncapped weight is accepted and kept nowhere: no processor time is shared out here."""

    ledger: Ledger
    configurations: Configurations

    def set(self, partition: Partition, request: HSetPpp, now_us: int) -> HcallStatus:
        """Set the partition's entitled capacity in hundredths; its default credits follow at once."""
        wanted = request.entitled_capacity
        if partition.mode is not ProcessorMode.SHARED or wanted < MINIMUM_HUNDREDTHS:
            return HcallStatus(code=HcallCode.H_PARAMETER)
        if self._changing(partition.name):
            return HcallStatus(code=HcallCode.H_BUSY)
        if wanted - partition.hundredths > max(0, self.ledger.free_hundredths()):
            return HcallStatus(code=HcallCode.H_RESOURCE)
        if wanted != partition.hundredths:
            partition.hundredths = wanted
            self.ledger.store_partition(partition)
            self.ledger.publish_credits(partition.name, CreditType.DEFAULT, now_us)
        return HcallStatus(code=HcallCode.H_SUCCESS)

    def _changing(self, lpar: str) -> bool:
        """Whether the partition has still to apply what the console changed: a new value would be taken back by it."""
        queue = self.configurations.queues.get(lpar, ())
        under_way = any(change.waits_for_kernel for change in queue)
        return under_way or (lpar, CreditType.DEFAULT) in self.configurations.expired
