"""Compress a file on a partition's NX unit, with the library: python compress_file.py DEVICE INPUT OUTPUT.

DEVICE is the `device` of a partition in `vasbus status --json`. What the NX does not take, zlib does. The output is
gzip. compress_file_wire.py and compress_file.c do the same, and print the same, with nothing but sockets. For tcp with
keys, VASBUS_KEYS names the file that `vasbus keys export DIR client:PARTITION FILE` has made.
"""

from __future__ import annotations

import os
import sys

from vasbus import Lpar, NxGzip

LIMIT_FILE = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps/req_max_processed_len"


def main(device: str, source: str, target: str) -> None:
    with Lpar(device, keys=os.environ.get("VASBUS_KEYS")) as lpar, NxGzip(lpar, small_bytes=0) as nx:
        part_bytes = int(lpar.read(LIMIT_FILE))
        nx.open()
        print("window open", flush=True)
        with open(source, "rb") as file, open(target, "wb") as output:
            while part := file.read(part_bytes):
                before = nx.statistics().compress.fallback
                packed = nx.compress(part)
                output.write(packed)
                after = nx.statistics().compress.fallback
                reasons = [str(reason) for reason, done in after.items() if done > before.get(reason, 0)]
                by = f"zlib ({', '.join(reasons)})" if reasons else "nx"
                print(f"{len(part)} -> {len(packed)} bytes by {by}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
