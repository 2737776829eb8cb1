"""The life of windows across real processes."""

from __future__ import annotations

import errno
import os

import pytest

from lpar.client import BusError, NxGzip, PasteRefused, Request
from protocol.codes import CompletionCode, FunctionCode, HcallCode
from protocol.console_messages import ConfigurationApplied, SetEntitlement
from tests.processes.cluster import SYSFS, WINDOW_LIST, Cluster, counter, eventually


def test_a_window_costs_a_credit_and_gives_it_back(cluster: Cluster) -> None:
    with cluster.lpar("lp1") as lp1:
        assert (counter(lp1, "nr_total_credits"), counter(lp1, "nr_used_credits")) == (40, 0)
        window = lp1.open_window()
        assert counter(lp1, "nr_used_credits") == 1
        assert [row.process_id for row in cluster.windows("lp1")] == [os.getpid()]
        window.close()
        assert counter(lp1, "nr_used_credits") == 0
    assert cluster.windows("lp1") == []


def test_the_kernel_interface_compresses_by_copy_and_paste(cluster: Cluster) -> None:
    data = os.urandom(1000) + b"paste " * 10_000
    with cluster.lpar("lp1") as lp1, lp1.open_device() as device:
        device.tx_win_open()
        area = device.mmap()
        csb = area.paste(Request(FunctionCode.COMPRESS_DHT, data, len(data))).wait(10)
        assert csb.code is CompletionCode.OK
        back = area.paste(Request(FunctionCode.DECOMPRESS, csb.target, len(data))).wait(10)
        assert back.target == data
        assert back.crc32 == csb.crc32
        area.unmap()


def test_a_window_beyond_the_total_is_refused_with_einval(cluster: Cluster) -> None:
    with cluster.lpar("lp3") as lp3:
        windows = [lp3.open_window() for _ in range(10)]
        with pytest.raises(OSError, match="no hcall") as refusal:
            lp3.open_window()
        assert refusal.value.errno == errno.EINVAL
        for window in windows:
            window.close()


def test_core_removal_closes_the_newest_and_core_return_remaps_them(cluster: Cluster) -> None:
    request = Request(FunctionCode.COMPRESS_DHT, b"still compressing " * 500, 10_000)
    with cluster.lpar("lp1") as lp1, cluster.console() as console:
        devices = [lp1.open_device() for _ in range(22)]
        ids = [device.tx_win_open() for device in devices]
        areas = [device.mmap() for device in devices]
        applied = console.change_processors("lp1", -1)
        assert list(applied.closed) == [ids[21], ids[20]]
        assert counter(lp1, "nr_used_credits") == 22
        assert counter(lp1, "nr_total_credits") == 20
        with pytest.raises(PasteRefused):
            areas[21].paste(request)
        with pytest.raises(BusError):
            areas[21].load()
        assert areas[0].paste(request).wait(10).code is CompletionCode.OK
        with pytest.raises(OSError, match=r".") as refusal:
            lp1.open_window()
        assert refusal.value.errno == errno.EINVAL
        applied = console.change_processors("lp1", +1)
        assert len(applied.reopened) == 2
        assert areas[21].paste(request).wait(10).code is CompletionCode.OK
        rows = {row.window_id: row.process_id for row in console.windows("lp1")}
        assert {rows[window_id] for window_id in applied.reopened} == {os.getpid()}
        for area, device in zip(areas, devices, strict=True):
            area.unmap()
            device.close()
    assert cluster.in_use("lp1") == 0


def test_a_held_notification_lets_an_open_reach_the_hypervisor(cluster: Cluster) -> None:
    with cluster.lpar("lp3") as lp3, cluster.console() as console:
        windows = [lp3.open_window() for _ in range(6)]
        console.hold_notifications("lp3", True)
        number = console.begin(SetEntitlement(lpar="lp3", hundredths=25, wait_ms=20_000))
        eventually(lambda: _target(cluster, "lp3") == 5, "the target is lowered")
        with pytest.raises(OSError, match="H_RESOURCE") as refusal:
            lp3.open_window()
        assert refusal.value.errno == errno.EIO
        assert getattr(refusal.value, "hcall", None) is HcallCode.H_RESOURCE
        console.hold_notifications("lp3", False)
        assert len(console.finish(number, ConfigurationApplied, 20).closed) == 1
        assert len(console.set_entitlement("lp3", 50).reopened) == 1
        for window in windows:
            window.close()


def test_nxgzip_round_trips_through_both_units(cluster: Cluster) -> None:
    data = b"".join(os.urandom(50) + b"vasbus" * 100 for _ in range(5000))
    for name in ("lp1", "lp2"):
        with cluster.lpar(name) as partition, NxGzip(partition) as nx:
            assert nx.decompress(nx.compress(data)) == data


def test_update_total_credits_is_write_only_and_parses_as_kstrtou16(cluster: Cluster) -> None:
    path = f"{SYSFS}/qos_capabilities/update_total_credits"
    with cluster.lpar("lp2") as lp2:
        with pytest.raises(PermissionError):
            lp2.read(path)
        for wrong in ("-1", "x", "70000", "", "1 2"):
            with pytest.raises(OSError, match=r".") as refusal:
                lp2.write(path, wrong)
            assert refusal.value.errno == errno.EINVAL
        lp2.write(path, "0x3\n")
        assert counter(lp2, "nr_total_credits", "qos_capabilities") == 3
        lp2.write(path, "0")


def test_the_window_list_of_the_kernel_is_newest_first(cluster: Cluster) -> None:
    with cluster.lpar("lp2") as lp2:
        windows = [lp2.open_window() for _ in range(3)]
        orders = [int(line.split()[0]) for line in lp2.read(WINDOW_LIST).splitlines()[1:]]
        assert orders == sorted(orders, reverse=True)
        for window in windows:
            window.close()


def _target(cluster: Cluster, name: str) -> int:
    with cluster.console() as console:
        status = next(status for status in console.system().lpars if status.name == name)
    return max(pool.target for pool in status.pools)
