"""Any order of opens, closes, core moves, deaths and kill -9, against a model that counts tokens in plain lists."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from hypervisor.ledger import WindowPhase
from protocol.clock import SECOND_US
from protocol.codes import CreditType, HcallCode
from protocol.console_messages import SystemStatus, WindowRow
from protocol.hcall_messages import HDeallocateVasWindow
from tests.hypervisor.books import QOS_TOTAL, Books
from tests.hypervisor.cluster import Cluster, Kill, lasting, not_fenced, settings, without_use
from tests.hypervisor.configuration_rules import ConfigurationRules
from tests.hypervisor.fake_lpar import modify
from tests.hypervisor.fault_rules import FaultRules
from tests.hypervisor.hcall_answers import is_known

LPARS = st.sampled_from(["lp1", "lp2", "lp3"])
UNITS = st.sampled_from(["nx0", "nx1"])
TYPES = st.sampled_from(list(CreditType))
NUMBERS = st.integers(0, 1 << 16)


class Machine(ConfigurationRules, FaultRules):
    """Three partitions, two units, one console; small pools, so that limits are met."""

    @initialize(seed=NUMBERS, counts=st.tuples(*[st.integers(0, 4)] * 3))
    def begin(self, seed: int, counts: tuple[int, int, int]) -> None:
        self.cluster = Cluster(settings(credits_per_core=3, qos_credits=QOS_TOTAL), seed).start()
        self.books = Books()
        self.running = {"lp1", "lp2", "lp3"}
        for lpar, count in zip(sorted(self.running), counts, strict=True):
            self.open_some(lpar, CreditType.DEFAULT, count)

    # Windows.

    @rule(lpar=LPARS, credit_type=TYPES, count=st.integers(1, 3))
    def open_some(self, lpar: str, credit_type: CreditType, count: int) -> None:
        """Windows as a kernel opens them: most of the other rules are about these."""
        for _ in range(count):
            before = set(self.books.live[lpar])
            self.allocate(lpar, credit_type)
            for window_id in set(self.books.live[lpar]) - before:
                self.bind_one(lpar, window_id, 1)

    def table(self) -> list[WindowRow]:
        return self.cluster.windows()

    def pick(self, lpar: str, number: int) -> int | None:
        windows = sorted(self.books.live[lpar])
        return windows[number % len(windows)] if windows and lpar in self.running else None

    def note(self, lpar: str, window_id: int, phase: str) -> None:
        window, credit_type, _ = self.books.live[lpar][window_id]
        self.books.live[lpar][window_id] = (window, credit_type, phase)

    @rule(lpar=LPARS, credit_type=TYPES)
    def allocate(self, lpar: str, credit_type: CreditType) -> None:
        if lpar not in self.running:
            return
        in_use = sum((row.lpar, row.credit_type) == (lpar, credit_type) for row in self.table())
        window = self.cluster.lpars[lpar].allocate(credit_type)
        if in_use >= len(self.books.credits(lpar, credit_type)):
            # A window that was being fenced may have become free meanwhile.
            fenced = bool(self.books.dead)
            assert window.code is HcallCode.H_RESOURCE or fenced, window
        elif all(unit.running and not unit.mute for unit in self.cluster.units.values()):
            assert window.code is HcallCode.H_SUCCESS, window
        else:
            assert window.code in (HcallCode.H_SUCCESS, HcallCode.H_CONSTRAINED), window
        if window.code is HcallCode.H_SUCCESS:
            known = {row.window_id for rows in self.books.live.values() for row, _, _ in rows.values()}
            known |= self.books.dead | {gone.window_id for gone in self.books.returned}
            assert window.window_id > max(known, default=0)
            self.books.live[lpar][window.window_id] = (window, credit_type, "reserved")
            in_use = sum((row.lpar, row.credit_type) == (lpar, credit_type) for row in self.table())
            assert in_use <= len(self.books.credits(lpar, credit_type))

    @rule(lpar=LPARS, number=NUMBERS, process_id=st.integers(1, 3))
    def bind(self, lpar: str, number: int, process_id: int) -> None:
        window_id = self.pick(lpar, number)
        if window_id is not None:
            self.bind_one(lpar, window_id, process_id)

    def bind_one(self, lpar: str, window_id: int, process_id: int) -> None:
        phase = self.books.live[lpar][window_id][2]
        held = [unit.contexts[window_id] for unit in self.cluster.units.values() if window_id in unit.contexts]
        code = self.cluster.lpars[lpar].status_of(modify(window_id, process_id))
        if phase == "closing":
            assert code is HcallCode.H_BUSY
        elif code is HcallCode.H_SUCCESS:
            assert not any(context.busy for context in held)
            self.note(lpar, window_id, "open")
        elif code is HcallCode.H_STATE:
            assert [context.busy for context in held] == [True]
        else:
            assert code in (HcallCode.H_LONG_BUSY_ORDER_10_MSEC, HcallCode.H_LONG_BUSY_ORDER_100_MSEC)
            if self.cluster.core.ledger.windows[window_id].phase is WindowPhase.PROGRAMMING:
                self.note(lpar, window_id, "binding")

    @rule(lpar=LPARS, number=NUMBERS)
    def give_back(self, lpar: str, number: int) -> None:
        window_id = self.pick(lpar, number)
        if window_id is None:
            return
        code = self.cluster.lpars[lpar].status_of(HDeallocateVasWindow(window_id=window_id))
        if code is HcallCode.H_SUCCESS:
            self.books.returned.append(self.books.live[lpar].pop(window_id)[0])
        else:
            assert code in (HcallCode.H_LONG_BUSY_ORDER_1_MSEC, HcallCode.H_LONG_BUSY_ORDER_10_MSEC), code
            self.note(lpar, window_id, "closing")

    @rule(lpar=LPARS, number=NUMBERS)
    def touch_anothers_window(self, lpar: str, number: int) -> None:
        others = [window_id for other, windows in self.books.live.items() if other != lpar for window_id in windows]
        foreign = sorted({*others, *self.books.dead})
        if foreign and lpar in self.running:
            window_id = foreign[number % len(foreign)]
            for body in (modify(window_id), HDeallocateVasWindow(window_id=window_id)):
                assert self.cluster.lpars[lpar].status_of(body) is HcallCode.H_PARAMETER

    @rule(unit=UNITS, number=NUMBERS, requests=st.integers(0, 1))
    def requests_in_flight(self, unit: str, number: int, requests: int) -> None:
        held = self.cluster.units[unit].contexts
        if held:
            window_id = sorted(held)[number % len(held)]
            if requests and not held[window_id].closers and not held[window_id].faults:
                held[window_id].in_flight = requests
            elif not requests:
                self.cluster.units[unit].complete(window_id)

    # Deaths and returns.

    @rule(lpar=LPARS)
    def lpar_dies(self, lpar: str) -> None:
        if lpar in self.running:
            self.cluster.lpars[lpar].die()
            self.running.discard(lpar)
            self.books.bury(lpar)
            self.cluster.advance(11 * SECOND_US)
            if self.cluster.lpar_status(lpar).state != "not_activated":
                self.cluster.advance(11 * SECOND_US)
            assert self.cluster.lpar_status(lpar).state == "not_activated"

    @rule(lpar=LPARS)
    def lpar_starts(self, lpar: str) -> None:
        if lpar not in self.running:
            self.cluster.lpars[lpar].start()
            self.running.add(lpar)

    @rule(lpar=LPARS)
    def lpar_restarts_at_once(self, lpar: str) -> None:
        partition = self.cluster.lpars[lpar]
        if lpar in self.running:
            partition.die()
            self.books.bury(lpar)
            partition.start()
            self.cluster.wait(lambda: partition.dialer.established)
            self.cluster.pump()

    @rule(unit=UNITS)
    def unit_dies(self, unit: str) -> None:
        self.cluster.units[unit].die()
        self.cluster.units[unit].contexts = {}

    @rule(unit=UNITS)
    def unit_returns(self, unit: str) -> None:
        if not self.cluster.units[unit].running:
            self.cluster.units[unit].start()
            self.cluster.wait(
                lambda: self.cluster.unit_status(unit).state == "running" or self.cluster.units[unit].mute
            )

    @rule(unit=UNITS, mute=st.booleans())
    def unit_falls_silent(self, unit: str, mute: bool) -> None:
        self.cluster.units[unit].mute = mute
        self.cluster.units[unit].speak()

    @rule(duration_us=st.sampled_from([1_000, 60_000, 700_000, 4 * SECOND_US, 31 * SECOND_US]))
    def time_passes(self, duration_us: int) -> None:
        self.cluster.advance(duration_us)

    # kill -9.

    @rule(turns=st.integers(1, 4), committed=st.booleans())
    def kill_soon(self, turns: int, committed: bool) -> None:
        self.cluster.kill = Kill(turns, committed)

    @rule()
    def kill_now(self) -> None:
        self.cluster.kill = None
        before = self.at_this_moment()
        self.cluster.restart()
        assert self.at_this_moment() == before

    def at_this_moment(self) -> tuple[SystemStatus, list[WindowRow]]:
        """What consoles are told. To ask as one would take time after a restart, in which things go on."""
        console = self.cluster.core.console
        rows = list(console._windows(None, 0).rows)
        return without_use(lasting(console.status(recovering=False))), not_fenced(rows)

    # What must always hold.

    def at_one_moment(self) -> tuple[list[WindowRow], SystemStatus]:
        """The table and the status; a kill that waits for its turn does not come between the two questions."""
        kill, self.cluster.kill = self.cluster.kill, None
        before = self.cluster.status()
        rows, status = self.table(), self.cluster.status()
        while lasting(before) != lasting(status):
            before, rows, status = status, self.table(), self.cluster.status()
        self.cluster.kill = kill
        return rows, status

    @invariant()
    def credits_in_use_are_windows_in_the_table(self) -> None:
        if not hasattr(self, "cluster"):
            return
        self.cluster.pump()
        rows, status = self.at_one_moment()
        counted = Counter((row.lpar, row.credit_type) for row in rows)
        for lpar in status.lpars:
            for pool in lpar.pools:
                assert pool.in_use == counted[lpar.name, pool.credit_type]
                assert pool.target == len(self.books.credits(lpar.name, pool.credit_type))
        ids = {row.window_id for row in rows}
        live = {window_id for windows in self.books.live.values() for window_id in windows}
        assert live <= ids <= live | self.books.dead
        self.books.dead &= ids

    @invariant()
    def no_returned_window_takes_a_paste(self) -> None:
        if hasattr(self, "cluster"):
            for unit in self.cluster.units.values():
                assert not any(unit.takes_paste(window) for window in self.books.returned)

    @invariant()
    def no_hcall_answers_a_code_that_its_table_does_not_have(self) -> None:
        if hasattr(self, "cluster"):
            assert all(is_known(*answer) for answer in self.cluster.core.hcalls.meter.answers)

    def calm(self) -> None:
        """Faults stop: everybody is there, every request completes."""
        self.cluster.kill = None
        self.cluster.loses = lambda _name, _body: False
        for unit in self.cluster.units.values():
            unit.mute = False
            unit.speak()
            if not unit.running:
                unit.start()
            for window_id in list(unit.contexts):
                unit.complete(window_id)
        self.cluster.advance(45 * SECOND_US)
        for unit in self.cluster.units.values():
            for window_id in list(unit.contexts):
                unit.complete(window_id)
        self.serve_faults()

    @precondition(lambda self: hasattr(self, "cluster"))
    @rule()
    def things_settle(self) -> None:
        self.calm()
        rows = self.table()
        assert {row.state for row in rows} <= {"reserved", "open", "quiesced"}
        for unit in self.cluster.units.values():
            opened = {row.window_id: row.process_id for row in rows if (row.unit, row.state) == (unit.name, "open")}
            assert {window_id: held.process_id for window_id, held in unit.contexts.items()} == opened
        assert not self.books.dead & {row.window_id for row in rows}
        phases = {row.window_id: row.state for row in rows}
        for windows in self.books.live.values():
            for window_id, (window, _, phase) in windows.items():
                expected = {"binding": "open", "closing": "quiesced"}.get(phase, phase)
                assert phases[window_id] == expected
                pasted = [unit for unit in self.cluster.units.values() if unit.takes_paste(window)]
                assert len(pasted) == (expected == "open")

    def teardown(self) -> None:
        """Everything given back, or its holder dead: nothing is left anywhere."""
        if not hasattr(self, "cluster"):
            return
        self.calm()
        for lpar in ("lp1", "lp2"):
            for window_id in list(self.books.live[lpar]):
                if lpar in self.running:
                    assert self.cluster.lpars[lpar].deallocate(window_id) is HcallCode.H_SUCCESS
        self.cluster.lpars["lp3"].die()
        self.cluster.advance(12 * SECOND_US)
        assert self.table() == []
        assert all(unit.contexts == {} for unit in self.cluster.units.values())
        assert all(pool.in_use == 0 for lpar in self.cluster.status().lpars for pool in lpar.pools)


TestMachine = Machine.TestCase
TestMachine.settings = hypothesis_settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
