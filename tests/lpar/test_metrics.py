"""A partition's metrics follow what it does."""

from __future__ import annotations

from protocol.codes import FaultOutcome, HcallCode, Instruction, KernelReason
from protocol.device_messages import CloseDescriptor, Fault, FaultHandled, TxWinOpen
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow
from protocol.metrics import Distribution, MetricKind
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, Partition, booted

NAMES = {
    "vasbus_lpar_credits": ("gauge", ("type", "which")),
    "vasbus_lpar_windows": ("gauge", ("type", "state")),
    "vasbus_lpar_opens_total": ("counter", ()),
    "vasbus_lpar_releases_total": ("counter", ()),
    "vasbus_lpar_closed_total": ("counter", ()),
    "vasbus_lpar_reopened_total": ("counter", ()),
    "vasbus_lpar_refusals_total": ("counter", ("reason",)),
    "vasbus_lpar_page_faults_total": ("counter", ("outcome",)),
    "vasbus_lpar_nx_faults_total": ("counter", ()),
    "vasbus_lpar_hcalls_total": ("counter", ("code",)),
    "vasbus_lpar_processes": ("gauge", ()),
    "vasbus_lpar_mutex_waiting": ("gauge", ()),
    "vasbus_lpar_open_seconds": ("histogram", ()),
    "vasbus_lpar_reconfigure_seconds": ("histogram", ()),
    "vasbus_lpar_hcall_seconds": ("histogram", ("hcall",)),
}


def value(partition: Partition, name: str, *labels: str) -> float:
    found = _sample(partition, name, labels)
    assert not isinstance(found, Distribution)
    return found


def observed(partition: Partition, name: str, *labels: str) -> Distribution:
    found = _sample(partition, name, labels)
    assert isinstance(found, Distribution)
    return found


def _sample(partition: Partition, name: str, labels: tuple[str, ...]) -> float | Distribution:
    (family,) = (family for family in partition.core.metrics() if family.name == name)
    (sample,) = (sample for sample in family.samples if sample.labels == labels)
    return sample.value


def test_the_families_are_complete_and_well_formed() -> None:
    partition = booted(2, qos=1)
    partition.open_windows(1)
    families = partition.core.metrics()
    assert {family.name: (family.kind.value, family.label_names) for family in families} == NAMES
    for family in families:
        assert (family.kind is MetricKind.COUNTER) == family.name.endswith("_total")
        labels = [sample.labels for sample in family.samples]
        assert labels, f"{family.name} has values from the start"
        assert len(set(labels)) == len(labels)
        assert {len(each) for each in labels} == {len(family.label_names)}


def test_closed_lists_of_labels_are_there_from_the_start() -> None:
    partition = booted(1)
    for reason in KernelReason:
        assert value(partition, "vasbus_lpar_refusals_total", reason.value) == 0
    for outcome in FaultOutcome:
        assert value(partition, "vasbus_lpar_page_faults_total", outcome.value) == 0


def test_credits_and_windows_by_type_and_state() -> None:
    partition = booted(4, qos=2)
    partition.open_windows(3)
    partition.open_windows(1, qos=True)
    partition.retarget(2)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    client = partition.process()
    partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0, flags=1))
    credits = {key: value(partition, "vasbus_lpar_credits", *key) for key in _pairs("total", "used")}
    assert credits == {
        ("default", "total"): 2, ("default", "used"): 3, ("qos", "total"): 2, ("qos", "used"): 2,
    }  # fmt: skip
    windows = {key: value(partition, "vasbus_lpar_windows", *key) for key in _pairs("active", "closed", "opening")}
    assert windows == {
        ("default", "active"): 2, ("default", "closed"): 1, ("default", "opening"): 0,
        ("qos", "active"): 1, ("qos", "closed"): 0, ("qos", "opening"): 1,
    }  # fmt: skip


def _pairs(*words: str) -> list[tuple[str, str]]:
    return [(kind, word) for kind in ("default", "qos") for word in words]


def test_counters_follow_opens_closes_reopens_and_releases() -> None:
    partition = booted(3)
    windows = partition.open_windows(3)
    partition.retarget(1)
    partition.retarget(2)
    partition.close(windows[0])
    counts = [value(partition, f"vasbus_lpar_{name}_total") for name in ("opens", "closed", "reopened", "releases")]
    assert counts == [3, 2, 1, 1]


def test_refusals_page_faults_and_translation_faults_are_counted() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.fails(window.client, TxWinOpen(descriptor=window.descriptor), KernelReason.WINDOW_EXISTS)
    mapping = partition.mmap(window).mapping
    partition.ask(window.client, Fault(mapping=mapping, instruction=Instruction.PASTE), FaultHandled)
    partition.ask(window.client, Fault(mapping=9, instruction=Instruction.LOAD), FaultHandled)
    partition.hypervisor.raise_fault(1, 1)
    partition.hypervisor.interrupt(1, 2)
    partition.settle()
    assert value(partition, "vasbus_lpar_refusals_total", "window_exists") == 1
    assert value(partition, "vasbus_lpar_page_faults_total", "remapped") == 1
    assert value(partition, "vasbus_lpar_page_faults_total", "sigbus") == 1
    assert value(partition, "vasbus_lpar_nx_faults_total") == 1, "the second interrupt brought no fault"


def test_every_return_of_an_hcall_is_counted_and_timed() -> None:
    partition = booted(2)
    partition.hypervisor.returns(HAllocateVasWindow, *[HcallCode.H_LONG_BUSY_ORDER_10_MSEC] * 3)
    client = partition.process()
    partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.advance(50)
    assert value(partition, "vasbus_lpar_hcalls_total", "H_LONG_BUSY_ORDER_10_MSEC") == 3
    allocations = observed(partition, "vasbus_lpar_hcall_seconds", "H_ALLOCATE_VAS_WINDOW")
    assert (sum(allocations.counts), allocations.sum_us) == (4, 0), "the waits between the rounds are not the hcall's"
    codes = [code.name for code in partition.core.statistics().hcalls]
    returns = sum(value(partition, "vasbus_lpar_hcalls_total", code) for code in codes)
    hcalls = ("H_QUERY_VAS_CAPABILITIES", "H_QUERY_NX_CAPABILITIES", "H_ALLOCATE_VAS_WINDOW", "H_MODIFY_VAS_WINDOW")
    assert returns == sum(sum(observed(partition, "vasbus_lpar_hcall_seconds", name).counts) for name in hcalls)


def test_a_slow_hcall_shows_in_its_histogram() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
    partition.advance(300)
    partition.hypervisor.release()
    partition.settle()
    assert observed(partition, "vasbus_lpar_hcall_seconds", "H_DEALLOCATE_VAS_WINDOW").sum_us == 300_000


def test_opens_are_timed_with_their_waits_and_only_once() -> None:
    partition = booted(2)
    client = partition.process()
    partition.hypervisor.returns(HAllocateVasWindow, *[HcallCode.H_LONG_BUSY_ORDER_10_MSEC] * 2)
    partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.advance(30)
    assert observed(partition, "vasbus_lpar_open_seconds").sum_us == 20_000
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    partition.advance(10_001)
    partition.hypervisor.release()
    partition.settle()
    opens = observed(partition, "vasbus_lpar_open_seconds")
    assert (sum(opens.counts), opens.sum_us) == (2, 20_000 + 10_000_000)


def test_reconfigurations_are_timed_with_the_wait_for_the_mutex() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    partition.call(windows[0].client, CloseDescriptor(descriptor=windows[0].descriptor))
    partition.write(UPDATE_TOTAL_CREDITS, "1")
    assert value(partition, "vasbus_lpar_mutex_waiting") == 1
    partition.advance(80)
    partition.hypervisor.release()
    partition.settle()
    changes = observed(partition, "vasbus_lpar_reconfigure_seconds")
    assert (sum(changes.counts), changes.sum_us) == (1, 80_000)
    assert value(partition, "vasbus_lpar_mutex_waiting") == 0


def test_processes_are_counted_while_they_have_a_session() -> None:
    partition = booted(1)
    clients = [partition.process() for _ in range(3)]
    assert value(partition, "vasbus_lpar_processes") == 3
    clients[0].dialer.say_bye()
    partition.settle()
    assert value(partition, "vasbus_lpar_processes") == 2
