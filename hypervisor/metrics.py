"""The hypervisor's metrics, read from its tables. Pure: nothing is changed by looking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypervisor.configuration import Configurations
from hypervisor.fault import FaultState
from hypervisor.faults import Faults
from hypervisor.hcalls import Hcalls
from hypervisor.ledger import Ledger, Window
from hypervisor.unit import Unit, UnitState
from protocol.codes import CreditType
from protocol.console_messages import SlotsStatus
from protocol.listener import Listener
from protocol.metrics import Distribution, Family, MetricKind, counter, gauge, labelled

Labels = tuple[str, ...]
GAUGE, COUNTER = MetricKind.GAUGE, MetricKind.COUNTER


def families(
    ledger: Ledger,
    hcalls: Hcalls,
    faults: Faults,
    units: Mapping[str, Unit],
    configurations: Configurations,
    listeners: Mapping[str, Listener],
    slots: SlotsStatus | None = None,
    *,
    recovering: bool,
) -> list[Family]:
    """Every metric of the hypervisor with its present values."""
    return [
        *_ledger(ledger),
        *_hcalls(hcalls),
        *_configurations(configurations, ledger),
        *_neighbours(listeners, units),
        _faults(faults),
        *_slots(slots),
        counter("vasbus_telemetry_published_total", "Messages of the telemetry stream.", ledger.effects.publication),
        gauge("vasbus_recovering", "1 while it is not known of every unit what it holds.", int(recovering)),
    ]


def _ledger(ledger: Ledger) -> list[Family]:
    targets: dict[Labels, float] = {}
    in_use: dict[Labels, float] = {}
    excess: dict[Labels, float] = {}
    for partition in ledger.present:
        for credit_type in CreditType:
            labels = partition.name, _label(credit_type)
            targets[labels] = ledger.target(partition, credit_type)
            in_use[labels] = ledger.in_use(partition.name, credit_type)
            excess[labels] = max(0, in_use[labels] - targets[labels])
    states: Counter[Labels] = Counter()
    for window in ledger.windows.values():
        states[window.lpar, _label(window.credit_type), _state(window)] += 1
    pool = ("lpar", "type")
    return [
        labelled(GAUGE, "vasbus_credits_target", "Credits assigned to the partition.", pool, targets),
        labelled(GAUGE, "vasbus_credits_in_use", "Credits held by windows, those being drained too.", pool, in_use),
        labelled(GAUGE, "vasbus_credits_excess", "Windows beyond the target; nobody revokes them.", pool, excess),
        labelled(GAUGE, "vasbus_windows", "Windows in the table by state.", (*pool, "state"), states),
    ]


def _hcalls(hcalls: Hcalls) -> list[Family]:
    answers: dict[Labels, float] = {(hcall, code.name): count for (hcall, code), count in hcalls.meter.answers.items()}
    durations: dict[Labels, Distribution] = {
        (hcall,): histogram.picture() for hcall, histogram in hcalls.meter.durations.items()
    }
    waiting = sum(len(calls) for calls in hcalls.waiting.values())
    kind = MetricKind.HISTOGRAM
    return [
        labelled(COUNTER, "vasbus_hcalls_total", "Hcalls answered.", ("hcall", "code"), answers),
        labelled(kind, "vasbus_hcall_seconds", "From an hcall's arrival to its answer.", ("hcall",), durations),
        gauge("vasbus_hcalls_waiting", "Hcalls that wait for an NX unit.", waiting),
    ]


def _configurations(configurations: Configurations, ledger: Ledger) -> list[Family]:
    steps: dict[Labels, float] = {(str(kind), step): count for (kind, step), count in configurations.steps.items()}
    queued: dict[Labels, float] = {
        (partition.name,): len(configurations.queues.get(partition.name, ())) for partition in ledger.present
    }
    changes = "vasbus_configuration_changes"
    what = "Changes of a partition that are not finished, the one with its kernel too."
    return [
        labelled(COUNTER, f"{changes}_total", "Steps of configuration changes.", ("kind", "step"), steps),
        labelled(GAUGE, f"{changes}_queued", what, ("lpar",), queued),
    ]


def _neighbours(listeners: Mapping[str, Listener], units: Mapping[str, Unit]) -> list[Family]:
    sessions: dict[Labels, float] = {(link,): len(listener.sessions) for link, listener in listeners.items()}
    counts = Counter(unit.state for unit in units.values())
    states: dict[Labels, float] = {(str(state),): counts[state] for state in UnitState}
    return [
        labelled(GAUGE, "vasbus_sessions", "Live sessions.", ("link",), sessions),
        labelled(GAUGE, "vasbus_units", "NX units by state.", ("state",), states),
    ]


def _slots(status: SlotsStatus | None) -> list[Family]:
    if status is None:
        return []
    states: dict[Labels, float] = {("claimed",): status.claimed, ("free",): status.count - status.claimed}
    return [labelled(GAUGE, "vasbus_slots", "Slots of the template by state.", ("state",), states)]


def _faults(faults: Faults) -> Family:
    """Those that wait for a kernel, and those whose window credit is on its way back."""
    counts = faults.states()
    states: dict[Labels, float] = {(str(state),): counts[state] for state in (FaultState.WAITING, FaultState.FETCHED)}
    return labelled(GAUGE, "vasbus_nx_faults", "Translation faults by state.", ("state",), states)


def _label(credit_type: CreditType) -> str:
    return credit_type.name.lower()


def _state(window: Window) -> str:
    return "fenced" if window.fenced else str(window.phase)
