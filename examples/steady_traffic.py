"""Compress and read back the same text on a partition as long as it runs: steady_traffic.py DEVICE [PER_SECOND].

A line each REPORT_S says how many requests were right, how many bytes the NX unit took and how many zlib had to. A
partition that dies is dialled again. SIGTERM or Ctrl-C ends it: exit code 1 if a single byte was wrong.
"""

from __future__ import annotations

import gzip
import os
import signal
import sys
import time

from vasbus import Lpar, NxGzip

REPORT_S = 10.0
TEXT = b"credits, windows and what becomes of them; " * 4000


class Stopped(Exception):
    """Asked to end."""


def stop(_number: int, _frame: object) -> None:
    raise Stopped


def work(device: str, each_s: float) -> int:
    """One connection's life: requests at a steady pace. Ends with OSError where the partition does."""
    with Lpar(device, keys=os.environ.get("VASBUS_KEYS")) as lpar, NxGzip(lpar, small_bytes=0) as nx:
        done, reported = 0, time.monotonic()
        while True:
            began = time.monotonic()
            if gzip.decompress(nx.compress(TEXT)) != TEXT:
                print("what came back is not what was compressed", flush=True)
                return 1
            done += 1
            if began - reported >= REPORT_S:
                counts = nx.statistics().compress
                by = f"{counts.nx_bytes} bytes by nx, {counts.software_bytes} by zlib"
                print(f"{done} requests right, {by}", flush=True)
                reported = began
            time.sleep(max(0.0, began + each_s - time.monotonic()))


def main(device: str, per_second: str = "20") -> int:
    signal.signal(signal.SIGTERM, stop)
    while True:
        try:
            return work(device, 1 / float(per_second))
        except (Stopped, KeyboardInterrupt):
            return 0
        except OSError as error:
            print(f"{error}; once more in a second", flush=True)
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
