"""What must be the same of a partition and its model."""

from __future__ import annotations

from protocol.codes import CreditType
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow, HQueryVasCapabilities
from protocol.message import Request
from tests.lpar.model import Caps, Kernel
from tests.lpar.model_hypervisor import DEFAULT, QOS
from tests.lpar.partition import Partition

TYPES = {QOS: CreditType.QOS, DEFAULT: CreditType.DEFAULT}


def same(what: str, expected: object, came: object) -> None:
    assert expected == came, f"{what}: expected {expected}, came {came}"


def compare(partition: Partition, model: Kernel) -> None:
    """Lists, counters, what the hypervisor holds, and the hcalls since the last comparison, in their order."""
    made, expected = partition.hypervisor.made, model.hypervisor
    same("hcalls", expected.calls, calls(made))
    same("queries", expected.queries, queries(made))
    for log in (made, expected.calls, expected.queries):
        log.clear()
    held = {number: TYPES[kind] for number, kind in expected.windows.items()}
    same("windows of the hypervisor", held, partition.hypervisor.windows)
    for kind, caps in model.caps.items():
        compare_type(partition, TYPES[kind], caps)
    driver = partition.core.kernel.driver
    same("migration", model.migrating, driver.migrating)
    same("operations under way", sum(len(caps.in_progress) for caps in model.caps.values()), driver.operations)
    same("holder of the mutex", None, driver.mutex.holder)


def compare_type(partition: Partition, credit_type: CreditType, caps: Caps) -> None:
    """One type's counters and list, with whether each paste page is mapped."""
    pool = partition.pool(credit_type)
    same(
        f"total, used, open, closed and in progress of {caps.kind}",
        (caps.total, caps.used, caps.nr_open_windows, caps.nr_close_wins, len(caps.in_progress)),
        (pool.total, pool.used, pool.nr_open, pool.nr_close, pool.progress),
    )
    expected = [
        (one.name, one.pid, one.window_id, one.no_cred_close + 2 * one.migrate_close, one.present)
        for one in caps.windows
    ]
    listed = [
        (window.order, window.pid, window.window_id, int(window.status), window.mapping and window.mapping.backed)
        for window in pool.newest_first()
    ]
    same(f"order, pid, id, status and mapping of {caps.kind} windows", expected, listed)


def compare_files(partition: Partition, model: Kernel) -> None:
    """What processes see of it: sysfs and the list of windows."""
    windows = [window for caps in model.caps.values() for window in caps.windows]
    windows.sort(key=lambda window: window.name, reverse=True)
    expected = [(one.name, one.kind, one.window_id, one.status) for one in windows]
    same("listing", expected, [(int(line[0]), line[1], int(line[2]), line[3]) for line in partition.listing()])
    for kind, caps in model.caps.items():
        same(f"files of {kind}", (caps.total, caps.used), partition.credits(TYPES[kind]))


def calls(made: list[Request]) -> list[tuple[object, ...]]:
    """The hcalls on windows, as the model writes them."""
    found: list[tuple[object, ...]] = []
    for call in made:
        if isinstance(call, HAllocateVasWindow):
            found.append(("allocate", CreditType(call.window_type).name.lower()))
        elif isinstance(call, HModifyVasWindow):
            found.append(("modify", call.window_id, call.process_id))
        elif isinstance(call, HDeallocateVasWindow):
            found.append(("deallocate", call.window_id))
    return found


def queries(made: list[Request]) -> list[str]:
    """The types that the kernel asked for, in order."""
    return [QOS if call.query_type == 1 else DEFAULT for call in made if isinstance(call, HQueryVasCapabilities)]
