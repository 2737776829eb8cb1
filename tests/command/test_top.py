"""`vasbus top`: the model on made-up messages, the view at several sizes, and the whole in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console as Terminal

from protocol.clock import SECOND_US
from protocol.codes import CreditType, ExitCode, HcallCode, Operand
from protocol.console_messages import LparStatus, PoolStatus, SlotsStatus, SystemStatus, UnitStatus
from protocol.telemetry_messages import ConfigurationMoved, CreditsChanged, FaultMoved, HcallMade, PeerMoved
from tests.processes.cluster import Cluster, eventually
from vasbus.top.document import document
from vasbus.top.feed import closed_windows
from vasbus.top.model import SNAPSHOT_LATEST_US, KernelView, Model
from vasbus.top.picture import Pool
from vasbus.top.view import bar, frame, spark

WAIT_S = 60


def status(sequence: int, in_use: int = 3, state: str = "running") -> SystemStatus:
    pools = (
        PoolStatus(credit_type=CreditType.DEFAULT, target=40, in_use=in_use),
        PoolStatus(credit_type=CreditType.QOS, target=2, in_use=0),
    )
    lpar = LparStatus(
        name="lp1", state=state, mode="dedicated", cores=2, hundredths=0, home_chip=0, epoch=1, generation=0,
        acknowledged=0, pid=12, endpoints={}, pools=pools,
    )  # fmt: skip
    unit = UnitStatus(name="nx0", chip=0, state="running", pid=13, endpoints={}, windows=in_use)
    return SystemStatus(
        system="sample", pid=11, recovering=False, cores_total=5, hundredths_free=300, qos_total=128, qos_free=126,
        lpars=(lpar,), units=(unit,), telemetry_sequence=sequence,
    )  # fmt: skip


def watched(sequence: int = 0) -> Model:
    model = Model(began_us=0)
    model.ask()
    model.snapshot(status(sequence), 0)
    return model


def hcall(at_us: int, name: str = "h_allocate_vas_window", code: HcallCode = HcallCode.H_SUCCESS) -> HcallMade:
    return HcallMade(at_us=at_us, lpar="lp1", epoch=1, number=1, hcall=name, arguments="", code=code)


def credits(at_us: int, in_use: int) -> CreditsChanged:
    return CreditsChanged(at_us=at_us, lpar="lp1", credit_type=CreditType.DEFAULT, target=40, in_use=in_use)


def moved(at_us: int, step: str, generation: int) -> ConfigurationMoved:
    return ConfigurationMoved(
        at_us=at_us, lpar="lp1", generation=generation, kind="cpu", step=step, detail="amount -1"
    )  # fmt: skip


def lines(model: Model, now_us: int, width: int, height: int | None) -> list[str]:
    terminal = Terminal(width=width, height=height or 50, file=None, force_terminal=False, legacy_windows=False)
    with terminal.capture() as capture:
        terminal.print(frame(model, now_us, width, height))
    return capture.get().splitlines()


def test_credits_follow_the_stream_between_snapshots() -> None:
    model = watched()
    model.arrive(1, credits(10, in_use=4), 10)
    assert model.picture.lpars["lp1"].pools[CreditType.DEFAULT] == Pool(40, 4)


@pytest.mark.parametrize("width", [79, 100, 140])
def test_windows_beyond_the_target_are_shown_as_a_number(width: int) -> None:
    model = watched()
    assert "3/40" in "".join(lines(model, 0, width, None))
    assert " +" not in "".join(lines(model, 0, width, None))
    model.arrive(1, credits(10, in_use=60), 10)
    assert "60/40 +20" in "".join(lines(model, 0, width, None))


def test_a_gap_is_mended_at_once_but_no_oftener_than_twice_a_second() -> None:
    model = watched()
    assert not model.snapshot_due(SECOND_US)
    model.arrive(3, credits(10, in_use=9), SECOND_US)
    assert (model.stream.lost, model.stream.mended) == (2, 0)
    assert model.snapshot_due(SECOND_US)
    model.ask()
    model.snapshot(status(3, in_use=9), SECOND_US)
    assert (model.stream.lost, model.stream.mended) == (2, 2)
    model.arrive(9, credits(20, in_use=1), SECOND_US + 1)
    assert not model.snapshot_due(SECOND_US + 2)
    assert model.snapshot_due(2 * SECOND_US)


def test_a_snapshot_is_asked_for_now_and_then_without_any_need() -> None:
    model = watched()
    assert not model.snapshot_due(SNAPSHOT_LATEST_US - 1)
    assert model.snapshot_due(SNAPSHOT_LATEST_US)


def test_hcalls_are_counted_per_second_by_code() -> None:
    model = watched()
    number = 0
    for second in range(1, 6):
        for code in (HcallCode.H_SUCCESS, HcallCode.H_SUCCESS, HcallCode.H_RESOURCE):
            number += 1
            model.arrive(number, hcall(number, code=code), second * SECOND_US)
    rates = model.activity.rates(6 * SECOND_US)
    assert rates["h_allocate_vas_window", HcallCode.H_SUCCESS] == 2.0
    assert rates["h_allocate_vas_window", HcallCode.H_RESOURCE] == 1.0
    assert model.activity.lpar_rates(6 * SECOND_US) == {"lp1": 3.0}
    assert model.activity.history(6 * SECOND_US)[-6:] == [0, 3, 3, 3, 3, 3]
    assert model.activity.rates(30 * SECOND_US) == {}


def test_a_change_and_a_fault_keep_their_line() -> None:
    model = watched()
    steps = [("queued", 0), ("applied", 1), ("notified", 1), ("acknowledged", 1)]
    for number, (step, generation) in enumerate(steps, start=1):
        model.arrive(number, moved(1000 * number, step, generation), number)
    for number, step in ((5, "raised"), (6, "fetched"), (7, "settled")):
        fault = FaultMoved(
            at_us=10_000 * number, lpar="lp1", window_id=7, number=1, operand=Operand.SOURCE, fault_address=65536,
            step=step,
        )  # fmt: skip
        model.arrive(number, fault, number)
    change, fault_line = model.activity.news
    assert (change.steps, change.elapsed_us) == (["queued", "applied", "notified", "acknowledged"], 3000)
    assert fault_line.steps == ["raised", "fetched", "settled"]
    assert model.activity.faults == {"raised": 1, "fetched": 1, "settled": 1}


def test_a_partition_that_goes_is_shown_at_once() -> None:
    model = watched()
    model.arrive(1, PeerMoved(at_us=1, role="lpar", name="lp1", epoch=1, step="closed"), 1)
    assert model.picture.lpars["lp1"].state == "not_activated"


def test_windows_that_wait_for_a_credit_are_read_from_the_kernels_list() -> None:
    listing = (
        "order type window_id status pid descriptor\n4 default 9 no_cred_close 7 3\n3 qos 8 active 7 -\n"
        "2 default 7 no_cred_close|migrate_close 7 3\n# 5 more\n"
    )
    assert closed_windows(listing) == {"default": 2}


@pytest.mark.parametrize(("width", "height"), [(60, 24), (84, 30), (109, 40), (110, 40), (132, 26), (220, 60)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    model = watched()
    model.kernels["lp1"] = {"default": KernelView(20, 25, 5), "qos": KernelView(2, 0, 0)}
    names = ("h_allocate_vas_window", "h_home_node_associativity", "h_modify_vas_window")
    for number in range(1, 90):
        code = list(HcallCode)[number % 7]
        model.arrive(number, hcall(number, names[number % 3], code), number * 100_000)
    shown = lines(model, 10 * SECOND_US, width, height)
    assert all(len(line) <= width for line in shown)
    assert len(shown) <= height
    text = "\n".join(shown)
    assert "lp1" in text
    assert "lost 0  mended 0" in text
    assert "25/20" in text


def test_slots_are_told_where_the_system_has_them() -> None:
    model = watched()
    assert "slots" not in "".join(lines(model, 0, 120, 40))
    assert document(model, 0)["slots"] is None
    slots = SlotsStatus(template="lpar", count=8, claimed=3)
    model.ask()
    model.snapshot(status(1).model_copy(update={"slots": slots}), SECOND_US)
    assert any("slots: lpar 3 of 8 claimed" in line for line in lines(model, SECOND_US, 120, 40))
    assert document(model, SECOND_US)["slots"] == {"template": "lpar", "count": 8, "claimed": 3}


def test_trouble_is_told_and_leaves_the_last_picture() -> None:
    model = watched()
    model.unreachable("ipc://there: no answer", SECOND_US)
    text = "\n".join(lines(model, SECOND_US, 132, None))
    assert "hypervisor unreachable: ipc://there" in text
    assert "lp1" in text
    assert document(model, SECOND_US)["hypervisor"] == {
        "pid": 11,
        "recovering": False,
        "trouble": "ipc://there: no answer",
    }


def test_bars_and_sparks_show_everything_that_is_not_nothing() -> None:
    styles = [span.style for span in bar(Pool(1000, 1), closed=1, width=20).spans]
    assert styles == ["cyan", "red", "grey27"]
    assert len(bar(Pool(0, 0), 0, 20)) == 20
    assert len(bar(Pool(3, 5), 2, 20)) == 20
    assert spark([0, 1, 1000]).plain == "▁▁█"


# On a real cluster.


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster.start(tmp_path_factory.mktemp("top"))
    try:
        yield started
    finally:
        started.down()


def words(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "vasbus", "top", "--dir", str(folder), *more]


def test_one_document_and_one_frame_for_scripts(cluster: Cluster) -> None:
    with cluster.lpar("lp1") as lpar, lpar.open_window():
        done = subprocess.run(
            words(cluster.folder.path, "--once", "--json", "--interval", "2"), capture_output=True, check=True,
            timeout=WAIT_S,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert found["lpars"]["lp1"]["pools"]["default"] == {"target": 40, "in_use": 1, "excess": 0}
        assert found["lpars"]["lp1"]["kernel"]["default"] == {"total": 40, "used": 1, "closed": 0, "available": 39}
        assert found["telemetry"]["whole"] is True
        text = subprocess.run(
            words(cluster.folder.path, "--once"), capture_output=True, check=True, timeout=WAIT_S, text=True
        ).stdout
    assert all(name in text for name in ("lp1", "lp2", "lp3", "nx0", "nx1", "1/40"))


class Screen:
    """A program in a terminal of its own."""

    def __init__(self, command: list[str], width: int, height: int) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(width, height)
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=environment
        )
        self.shown = ""

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def shows(self, text: str, after: int = 0) -> bool:
        """Whether the text has come on the screen, colours apart."""
        while select.select([self.master], [], [], 0.05)[0]:
            try:
                self.shown += os.read(self.master, 65_536).decode(errors="replace")
            except OSError:
                break
        return text in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown[after:])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def screen(cluster: Cluster) -> Iterator[Screen]:
    started = Screen(words(cluster.folder.path), 132, 40)
    try:
        yield started
    finally:
        started.close()


def test_the_screen_follows_credits_changes_resizes_and_ends_with_q(cluster: Cluster, screen: Screen) -> None:
    eventually(lambda: screen.shows("lost 0  mended 0"), "the first frame")
    with cluster.lpar("lp2") as lpar, lpar.open_window():
        eventually(lambda: screen.shows("1/20"), "the open window")
        with cluster.console() as console:
            console.change_processors("lp1", -1)
        eventually(lambda: screen.shows("acknowledged"), "the removed core")
        place = len(screen.shown)
        screen.resize(84, 30)
        eventually(lambda: screen.shows("╭─ NX units " + "─" * 71 + "╮", place), "the narrow layout")
    os.write(screen.master, b"q")
    began = time.monotonic()
    eventually(lambda: screen.shows("") and screen.process.poll() is not None, "the end")
    assert screen.process.returncode == ExitCode.OK
    assert time.monotonic() - began < 10
    assert screen.shown.rstrip().endswith(("\x1b[?25h", "\x1b[?1049l", "\x1b[?1049l\x1b[?25h"))


HIDDEN = ("\x1b[?25l", "\x1b[?1049h")
RESTORED = ("\x1b[?25h", "\x1b[?1049l")
"""The cursor is shown, and the screen of before is back."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(screen: Screen, number: signal.Signals) -> None:
    before = termios.tcgetattr(screen.slave)
    eventually(lambda: screen.shows("lost 0  mended 0"), "the first frame")
    assert not termios.tcgetattr(screen.slave)[3] & termios.ECHO
    screen.process.send_signal(number)
    eventually(lambda: screen.shows("") and screen.process.poll() is not None, "the end")
    assert screen.process.returncode == 128 + number
    assert termios.tcgetattr(screen.slave) == before
    shown = screen.shown
    assert all(shown.rindex(on) > shown.rindex(off) for on, off in zip(RESTORED, HIDDEN, strict=True))
    assert "Traceback" not in shown


def test_a_terminal_that_is_closed_ends_it_with_its_signal(cluster: Cluster) -> None:
    """The terminal is the process's own one, so that its end is told to it as SIGHUP."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        words(cluster.folder.path), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while b"\x1b[?1049h" not in shown:
        assert select.select([master], [], [], WAIT_S)[0], "nothing is shown"
        shown += os.read(master, 65_536)
    os.close(master)
    assert process.wait(WAIT_S) == 128 + signal.SIGHUP


def test_a_killed_hypervisor_is_shown_and_its_successor_recognised(cluster: Cluster, screen: Screen) -> None:
    eventually(lambda: screen.shows("lost 0  mended 0"), "the first frame")
    cluster.kill("hypervisor")
    eventually(lambda: screen.shows("unreachable"), "the missing hypervisor")
    cluster.up()
    eventually(lambda: screen.shows("restarts 1"), "the new hypervisor")
    assert screen.process.poll() is None
