"""The driver with real sockets and threads."""

from __future__ import annotations

import gc
import gzip
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lpar.client import ForkedProcess, Lpar, LparClosed, NxGzip, Request, SegmentationFault
from lpar.client.interrupts import Interrupts
from lpar.client.libnxz import Libnxz, Status
from protocol import device_messages as device
from protocol.codes import CompletionCode, FunctionCode
from protocol.message import Message
from protocol.paste_messages import Paste, PasteCompleted
from protocol.session_messages import Welcome
from protocol.wire import Envelope
from tests.client.kernel import TOTAL
from tests.client.servers import Servers, serving
from tests.client.test_compress import TEXT
from tests.fidelity.rows import fidelity

THREADS = 8
REQUEST = Request(FunctionCode.COMPRESS_DHT, TEXT[:20_000], 40_000)
WAIT_S = 10.0


@pytest.fixture
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="vb") as folder, serving(Path(folder)) as running:
        yield running


@pytest.fixture
def lpar(servers: Servers) -> Iterator[Lpar]:
    with Lpar(servers.endpoint, timeout=WAIT_S) as process:
        yield process


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.002)


def interrupt_when(holds: Callable[[], bool]) -> threading.Thread:
    """Send this process SIGINT as soon as something is so."""

    def wait_and_kill() -> None:
        eventually(holds)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def test_the_whole_way_from_open_to_csb(servers: Servers, lpar: Lpar) -> None:
    assert lpar.read(TOTAL) == "40\n"
    assert (lpar.endpoint, lpar.pid) == (servers.endpoint, os.getpid())
    assert lpar.name.startswith(f"client-{os.getpid()}-")
    with lpar.open_device() as file:
        file.tx_win_open()
        with file.mmap() as area:
            csb = area.paste(REQUEST).wait()
    assert csb.code is CompletionCode.OK
    assert servers.kernel.windows == []


def test_input_of_many_parts_goes_there_and_back(lpar: Lpar) -> None:
    data = TEXT * 10
    with NxGzip(lpar, "nx") as nx:
        output = nx.compress(data)
        assert gzip.decompress(output) == data
        assert nx.decompress(output) == data


def test_threads_share_one_process(servers: Servers, lpar: Lpar) -> None:
    def work(number: int) -> int:
        done = 0
        for _ in range(10):
            with lpar.open_window() as window:
                done += window.run(REQUEST).code is CompletionCode.OK
            assert lpar.read(TOTAL) == "40\n"
        return done * number

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(work, range(THREADS))) == 10 * sum(range(THREADS))
    assert servers.kernel.windows == []


def test_threads_share_one_nx_gzip(lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    inputs = [TEXT[number * 1000 : number * 1000 + 50_000] for number in range(40)]

    def work(data: bytes) -> bool:
        return nx.decompress(nx.compress(data)) == data

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(work, inputs))
    picture = nx.statistics()
    assert picture.compress.bytes_in == picture.compress.nx_bytes == 40 * 50_000
    assert picture.opens == 1


def test_threads_share_libnxzs_window_and_reopen_it_once(servers: Servers, lpar: Lpar) -> None:
    libraries = [Libnxz(lpar, "nx"), Libnxz(lpar, prefixed=True)]
    friendly = [NxGzip(lpar, "nx", "reopen") for _ in range(2)]
    inputs = [TEXT[number * 1000 : number * 1000 + 50_000] for number in range(20)]

    def by_libnxz(number: int) -> bool:
        library, data = libraries[number % 2], inputs[number]
        status, packed = library.compress(data)
        return status is Status.Z_OK and library.uncompress(packed) == (Status.Z_OK, data)

    def by_nx_gzip(number: int) -> bool:
        nx, data = friendly[number % 2], inputs[number]
        return nx.decompress(nx.compress(data)) == data

    with ThreadPoolExecutor(THREADS) as pool:
        assert all([*pool.map(by_libnxz, range(20)), *pool.map(by_nx_gzip, range(20))])
        assert len(servers.kernel.windows) == 1
        servers.kernel.suspend()
        running = [pool.submit(by_nx_gzip, number) for number in range(THREADS)]
        eventually(lambda: not servers.kernel.windows)
        servers.kernel.total = 40
        assert all(call.result(WAIT_S) for call in running)
    assert len(servers.kernel.windows) == 1
    assert sum(nx.statistics().reopenings for nx in friendly) == 1


def test_software_in_one_thread_does_not_hold_up_another(servers: Servers, lpar: Lpar) -> None:
    servers.kernel.total = 0
    nx = NxGzip(lpar, level=9)
    with ThreadPoolExecutor(2) as pool:
        compressing = pool.submit(nx.compress, os.urandom(1000) * 20_000)
        eventually(lambda: nx.statistics().open_refusals == 1)
        assert lpar.read(TOTAL) == "0\n"
        assert not compressing.done()
        assert gzip.decompress(compressing.result())
    assert nx.statistics().compress.is_balanced


def test_where_nobody_listens_the_deadline_is_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no kernel welcomed this process"):
        Lpar(f"ipc://{tmp_path}/nobody", timeout=0.2)
    assert 0.15 < time.monotonic() - began < 5


@pytest.mark.parametrize("endpoint", ["nonsense", "ipc://" + "x" * 200, "smoke://signal"])
def test_an_endpoint_that_is_none_is_told_at_once(endpoint: str) -> None:
    with pytest.raises(OSError, match=r"cannot dial .*expected ipc:///path/of/a/socket or tcp://host:port"):
        Lpar(endpoint)


def test_a_deadline_of_one_thread_passes_while_another_leads(servers: Servers, lpar: Lpar) -> None:
    window = lpar.open_window()
    window.map()
    for unit in servers.units:
        unit.mute = True
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(window.run, REQUEST, 2.0)
        eventually(lambda: any(unit.received or unit.mute for unit in servers.units))
        other = lpar.open_window()
        other.map()
        with pytest.raises(TimeoutError):
            other.run(REQUEST, timeout=0.1)
        assert not slow.done()
        for unit in servers.units:
            unit.mute = False
        assert slow.result().code is CompletionCode.OK


def test_ctrl_c_ends_a_call_and_leaves_the_process_usable(servers: Servers, lpar: Lpar) -> None:
    servers.kernel.mute = True
    killer = interrupt_when(lambda: lpar.driver.core.dialer.session.caller.is_waiting)
    with pytest.raises(KeyboardInterrupt):
        lpar.open_device()
    killer.join()
    servers.kernel.mute = False
    assert lpar.read(TOTAL) == "40\n"
    eventually(lambda: lpar.read(TOTAL) == "40\n" and not servers.kernel.descriptors)


def test_ctrl_c_ends_a_call_that_another_thread_leads(servers: Servers, lpar: Lpar) -> None:
    window = lpar.open_window()
    window.map()
    for unit in servers.units:
        unit.mute = True
    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(window.run, REQUEST, WAIT_S)
        eventually(lambda: bool(lpar.driver.core.scheduler.tasks))
        servers.kernel.mute = True
        killer = interrupt_when(lambda: len(lpar.driver.core.scheduler.tasks) == 2)
        with pytest.raises(KeyboardInterrupt):
            lpar.read(TOTAL)
        killer.join()
        servers.kernel.mute = False
        for unit in servers.units:
            unit.mute = False
        assert leading.result().code is CompletionCode.OK


def test_an_interrupt_waits_until_the_state_is_whole() -> None:
    steps: list[str] = []
    interrupts = Interrupts(lambda: steps.append("roused"))

    def change() -> None:
        with interrupts:
            signal.raise_signal(signal.SIGINT)
            steps.append("whole")

    with pytest.raises(KeyboardInterrupt):
        change()
    assert steps == ["roused", "whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with interrupts:
        steps.clear()


def test_an_interrupt_comes_at_once_where_it_is_allowed() -> None:
    interrupts = Interrupts(lambda: None)

    def wait(*, noted_before: bool) -> None:
        with interrupts:
            if noted_before:
                signal.raise_signal(signal.SIGINT)
            with interrupts.allowed():
                signal.raise_signal(signal.SIGINT)
                raise AssertionError("not interrupted")

    for noted_before in (True, False):
        with pytest.raises(KeyboardInterrupt):
            wait(noted_before=noted_before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_programs_own_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    interrupts = Interrupts(lambda: None)
    try:
        with interrupts:
            signal.raise_signal(signal.SIGINT)
            with interrupts.allowed():
                signal.raise_signal(signal.SIGINT)
            assert heard == [signal.SIGINT] * 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_closing_ends_the_calls_of_other_threads(servers: Servers) -> None:
    lpar = Lpar(servers.endpoint)
    window = lpar.open_window()
    window.map()
    for unit in servers.units:
        unit.mute = True
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(window.run, REQUEST) for _ in range(3)]
        eventually(lambda: len(lpar.driver.core.scheduler.tasks) == 3)
        lpar.close()
        for call in calls:
            assert isinstance(call.exception(WAIT_S), LparClosed)
    lpar.close()
    with pytest.raises(LparClosed):
        lpar.read(TOTAL)
    eventually(lambda: servers.kernel.ended == 1)


@fidelity(
    "3 lifetime",
    "A forked child inherits descriptor and mapping, but its copy of the mapping is not the remembered one: a "
    "fault there is SIGBUS.",
    source="A:api",
    differs="A process is known by its connection, which a child does not inherit: the library raises ForkedProcess.",
)
@fidelity(
    "7 libnxz",
    "A saved handle belongs to the process that opened it: after a fork the child opens a window of its own.",
    source="LNX:lib/nx_zlib.c",
    differs="A forked child may not use its parent's connection at all: ForkedProcess tells it to make its own.",
)
def test_a_forked_child_is_told_to_make_its_own(lpar: Lpar) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            lpar.read(TOTAL)
        except ForkedProcess:
            lpar.close()
            os._exit(17)
        os._exit(1)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 17
    assert lpar.read(TOTAL) == "40\n"


def test_every_message_is_shown_to_the_hook(servers: Servers) -> None:
    seen: list[tuple[str, str, type[Message]]] = []

    def note(direction: str, link: str, envelope: Envelope) -> None:
        seen.append((direction, link.partition(":")[0], type(envelope.body)))

    with Lpar(servers.endpoint, on_message=note) as lpar, lpar.open_window() as window:
        window.run(REQUEST)
        lpar.on_message, count = None, len(seen)
        window.run(REQUEST)
        assert (lpar.on_message, len(seen)) == (None, count)
    for expected in (
        ("received", "device", Welcome),
        ("sent", "device", device.TxWinOpen),
        ("received", "device", device.Mapped),
        ("sent", "paste", Paste),
        ("received", "paste", PasteCompleted),
    ):
        assert expected in seen


def test_a_hook_that_raises_is_dropped_and_reported(servers: Servers) -> None:
    def explode(_direction: str, _link: str, _envelope: Envelope) -> None:
        raise RuntimeError("boom")

    with pytest.warns(RuntimeWarning, match="boom"):
        lpar = Lpar(servers.endpoint, on_message=explode)
    assert lpar.read(TOTAL) == "40\n"
    lpar.close()


def test_a_process_leaves_no_descriptor_and_no_thread_behind(servers: Servers) -> None:
    def census() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def use() -> None:
        with Lpar(servers.endpoint) as lpar, lpar.open_window() as window:
            window.run(REQUEST)

    use()
    eventually(lambda: servers.kernel.ended == 1)
    before = census()
    for _ in range(5):
        use()
    eventually(lambda: census()[0] <= before[0])
    assert census()[1] == before[1]


def test_a_restarted_kernel_is_noticed_over_sockets(servers: Servers, lpar: Lpar) -> None:
    lpar.open_window()
    servers.kernel.restart()
    with pytest.raises(OSError, match="restarted"):
        lpar.read(TOTAL)
    lpar.reconnect()
    with lpar.open_window() as window:
        assert window.run(REQUEST).code is CompletionCode.OK


def test_a_process_that_was_forgotten_is_closed_and_said(servers: Servers) -> None:
    def open_one() -> None:
        Lpar(servers.endpoint, timeout=WAIT_S).open_window()

    def forget() -> None:
        open_one()
        gc.collect()

    with pytest.warns(ResourceWarning, match="a Driver was not closed"):
        forget()


class TestTheKernelCalls:
    """The kernel asks something of the process, whether a thread of it waits or not."""

    def test_a_call_that_comes_while_no_thread_waits_is_taken_by_the_next_call(
        self, servers: Servers, lpar: Lpar
    ) -> None:
        servers.kernel.raises_after_us = 20_000
        lpar.write("/anything", "x")
        eventually(lambda: servers.kernel.signals > 0)
        with pytest.raises(SegmentationFault):
            lpar.read(TOTAL)
        eventually(lambda: [type(answer) for answer in servers.kernel.answers] == [device.SignalTaken])
        assert not lpar.is_alive
        lpar.reconnect()
        assert lpar.read(TOTAL) == "40\n"

    def test_every_thread_that_waits_gets_the_signal(self, servers: Servers, lpar: Lpar) -> None:
        servers.kernel.delay["read_file"] = 60_000_000
        with ThreadPoolExecutor(THREADS) as pool:
            reads = [pool.submit(lpar.read, TOTAL) for _ in range(THREADS)]
            eventually(lambda: sum(isinstance(body, device.ReadFile) for body in servers.kernel.executed) == THREADS)
            servers.kernel.raises_after_us = 20_000
            lpar.write("/anything", "x")
            eventually(lambda: servers.kernel.signals > 0)
            with pytest.raises(SegmentationFault):
                lpar.read(TOTAL)
            assert all(isinstance(read.exception(WAIT_S), SegmentationFault) for read in reads)

    def test_a_dead_process_leaves_with_its_block(self, servers: Servers) -> None:
        servers.kernel.raises_after_us = 20_000
        process = Lpar(servers.endpoint, timeout=WAIT_S)
        process.write("/anything", "x")
        eventually(lambda: servers.kernel.signals > 0)
        with pytest.raises(SegmentationFault), process:
            process.read(TOTAL)
        eventually(lambda: not servers.kernel.listener.sessions)
