"""The window that a process shares: nx_open and nx_close."""

from __future__ import annotations

import errno
import gzip

import pytest

from lpar.client import KernelFailure, Lpar
from lpar.client.shared_windows import OPEN_RETRIES, REUSE_MOST
from lpar.client.statistics import Ledger
from protocol import device_messages as device
from protocol.codes import KernelReason
from tests.client.kernel import TOTAL, USED, failure
from tests.client.reopen import NEVER, SETTINGS, credits_are, reopening
from tests.client.test_compress import PART, limit_to
from tests.client.test_fallback import PARTS, fallback, opens
from tests.client.world import World
from tests.fidelity.rows import fidelity


@pytest.fixture(autouse=True)
def small_parts(world: World) -> None:
    limit_to(world, PART)


@fidelity(
    "7 libnxz",
    "A stream is refused a window at once, with EAGAIN, when used credits are at total - 1 or above: "
    "one credit always stays spare.",
    source="LNX:lib/nx_zlib.c",
)
@pytest.mark.parametrize(("used", "refused"), [(38, False), (39, True), (40, True), (41, True)])
def test_one_credit_of_the_partition_stays_spare(world: World, lpar: Lpar, used: int, refused: bool) -> None:
    credits_are(world, 40, used)
    nx = reopening(lpar)
    if not refused:
        nx.open()
        return
    with pytest.raises(BlockingIOError, match=f"{used} of 40 credits are in use") as spare:
        nx.open()
    assert spare.value.errno == errno.EAGAIN
    assert opens(world) == 0


@fidelity(
    "7 libnxz",
    "The spare credit also counts against a process that has a saved window: it is not reused then.",
    source="LNX:lib/nx_zlib.c",
)
def test_the_spare_credit_counts_against_a_saved_window_too(world: World, lpar: Lpar) -> None:
    with reopening(lpar) as first:
        first.compress(PARTS)
    assert len(world.kernel.windows) == 1, "kept for reuse"
    credits_are(world, 40, 39)
    with pytest.raises(BlockingIOError):
        reopening(lpar).open()


def test_counters_that_cannot_be_read_refuse_nobody(world: World, lpar: Lpar) -> None:
    world.kernel.odd_files[TOTAL] = "many\n"
    nx = reopening(lpar)
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert fallback(nx) == {}


@fidelity(
    "7 libnxz",
    "One window serves all threads of a process: a handle that is saved is shared by every later open.",
    source="LNX:lib/nx_zlib.c",
)
def test_all_users_of_a_process_share_one_window(world: World, lpar: Lpar) -> None:
    users = [reopening(lpar) for _ in range(4)]
    for nx in users:
        assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert opens(world) == 1
    assert len({nx.address.token for nx in users if nx.address is not None}) == 1
    assert [nx.statistics().compress.nx_bytes for nx in users] == [len(PARTS)] * 4
    assert [nx.statistics().opens for nx in users] == [1, 0, 0, 0]
    assert all(nx.statistics().accepted == nx.statistics().requests > 0 for nx in users)


def test_another_process_and_another_kind_of_credit_have_windows_of_their_own(world: World, lpar: Lpar) -> None:
    world.kernel.files[TOTAL.replace("default", "qos")] = "5\n"
    world.kernel.files[USED.replace("default", "qos")] = "0\n"
    default, qos = reopening(lpar), reopening(lpar, qos=True)
    default.open()
    qos.open()
    assert sorted(window.flags for window in world.kernel.windows) == [0, 1]
    other = World()
    reopening(other.lpar()).open()
    assert opens(other) == 1


@fidelity(
    "7 libnxz",
    "A saved handle is reused while its use count is at most 10000; the next open gets a new window, and the old one "
    "is closed when nobody uses it.",
    source="LNX:lib/nx_zlib.c",
)
def test_a_window_is_reused_ten_thousand_times(world: World) -> None:
    windows, ledger = world.core.windows, Ledger()
    world.lpar()
    first = world.run(windows.open(SETTINGS, ledger, 0))
    first.uses = REUSE_MOST
    assert REUSE_MOST == 10_000
    assert world.run(windows.open(SETTINGS, ledger, 0)) is first
    second = world.run(windows.open(SETTINGS, ledger, 0))
    assert second is not first
    assert (second.uses, second.users, first.users) == (1, 1, 2)
    assert len(world.kernel.windows) == 2, "the old one still has users"
    for _ in range(2):
        world.run(windows.close(first, SETTINGS))
    assert first.window is None
    assert len(world.kernel.windows) == 1


def test_a_worn_out_window_without_users_is_closed_by_the_open_that_replaces_it(world: World) -> None:
    windows, ledger = world.core.windows, Ledger()
    world.lpar()
    first = world.run(windows.open(SETTINGS, ledger, 0))
    world.run(windows.close(first, SETTINGS))
    assert first.window is not None
    first.uses = REUSE_MOST + 1
    second = world.run(windows.open(SETTINGS, ledger, 0))
    assert first.window is None
    assert second.window is not None


@fidelity(
    "7 libnxz",
    "When opening a window fails and total credits are at most the used ones, it is tried ten times more, 500 ticks "
    "apart, and then the errno is EAGAIN.",
    source="LNX:lib/gzip_vas.c",
    differs="500 ticks of 512 MHz are a microsecond, less than the way to the kernel here: the tries follow at once.",
)
def test_an_open_that_met_exhausted_credits_is_tried_ten_times_more(world: World, lpar: Lpar) -> None:
    world.kernel.failures += [("tx_win_open", failure(KernelReason.NO_CREDIT))] * NEVER.bit_length()

    def run_out(_key: str, envelope: object) -> None:
        if isinstance(getattr(envelope, "body", None), device.TxWinOpen):
            credits_are(world, 40, 40)

    world.before_delivery = run_out
    with pytest.raises(BlockingIOError, match="no window after 11 tries") as exhausted:
        reopening(lpar).open()
    assert exhausted.value.errno == errno.EAGAIN
    assert isinstance(exhausted.value.__cause__, KernelFailure)
    assert opens(world) == 1 + OPEN_RETRIES == 11
    assert not world.kernel.windows
    assert set(world.kernel.descriptors.values()) == set()


def test_one_of_the_tries_may_succeed(world: World, lpar: Lpar) -> None:
    world.kernel.failures += [("tx_win_open", failure(KernelReason.NO_CREDIT))] * OPEN_RETRIES

    def run_out(_key: str, envelope: object) -> None:
        if isinstance(getattr(envelope, "body", None), device.TxWinOpen):
            credits_are(world, 40, 40)

    world.before_delivery = run_out
    reopening(lpar).open()
    assert opens(world) == 1 + OPEN_RETRIES


@fidelity(
    "7 libnxz",
    "When opening a window fails although credits are left, the caller gets the errno of the ioctl; there is no other "
    "try.",
    source="LNX:lib/gzip_vas.c",
)
@pytest.mark.parametrize("reason", [KernelReason.CLOSED_WINDOWS, KernelReason.HCALL_FAILED, KernelReason.NO_CREDIT])
def test_an_open_that_failed_otherwise_has_the_kernels_errno(world: World, lpar: Lpar, reason: KernelReason) -> None:
    world.kernel.failures += [("tx_win_open", failure(reason))] * 2
    with pytest.raises(KernelFailure) as refused:
        reopening(lpar).open()
    assert refused.value.reason is reason
    assert opens(world) == 1


def test_a_window_that_was_closed_before_it_could_be_mapped_leaves_nothing_open(world: World, lpar: Lpar) -> None:
    world.kernel.failures.append(("mmap", failure(KernelReason.INACTIVE)))
    with pytest.raises(PermissionError):
        reopening(lpar).open()
    assert not world.kernel.windows
    assert not world.kernel.descriptors


@fidelity(
    "7 libnxz",
    "When the last user of the saved window closes it, it is closed if used credits are at total - 1 or above, to help "
    "others, and kept for reuse otherwise.",
    source="LNX:lib/nx_zlib.c",
)
@pytest.mark.parametrize(("used", "kept"), [(38, True), (39, False)])
def test_the_last_user_gives_the_window_back_only_where_credits_are_short(
    world: World, lpar: Lpar, used: int, kept: bool
) -> None:
    first, second = reopening(lpar), reopening(lpar)
    first.open()
    second.open()
    credits_are(world, 40, used)
    first.close()
    assert len(world.kernel.windows) == 1, "somebody still uses it"
    second.close()
    assert len(world.kernel.windows) == kept
    second.close()
    credits_are(world, 40, 10)
    second.compress(PARTS)
    assert opens(world) == (1 if kept else 2)
    assert second.statistics().reopenings == 0, "one that was given back is forgotten"


def test_a_window_kept_for_reuse_ends_with_its_process(world: World, lpar: Lpar) -> None:
    reopening(lpar).open()
    lpar.close()
    world.pass_time(10_000)
    assert not world.kernel.windows


@pytest.mark.parametrize("turns", range(0, 40, 3))
def test_an_open_that_is_cancelled_leaves_nothing_open(world: World, lpar: Lpar, turns: int) -> None:
    nx = reopening(lpar)
    task = world.start(nx._work.accelerator.open(0))
    for _ in range(turns):
        world.turn()
    if not task.done:
        world.core.cancel(task, world.now_us)
    world.pass_time(10_000)
    assert len(world.kernel.windows) == len(world.kernel.descriptors) == (0 if task.error or nx.address is None else 1)
    nx.open()
    assert len(world.kernel.windows) == 1
