"""Behaviour of the real system that no test shows here, because there is nothing to show: each with its reason."""

from __future__ import annotations

from tests.fidelity.difference import Difference
from tests.fidelity.unit_differences import UNIT_DIFFERENCES

DIFFERENCES: tuple[Difference, ...] = (
    *UNIT_DIFFERENCES,
    Difference(
        "1 errnos",
        "The first versions of the patches gave each hcall code an errno of its own: EINVAL, EPERM, EBUSY, EACCES.",
        source="ML:0bab8a44ac",
        differs="The merged driver is followed: EIO for every code of an open.",
    ),
    Difference(
        "1 errnos",
        "Hints of 1, 10 and 100 s are clamped to 10 ms like all others.",
        source="K:vas.c",
        differs="The hypervisor never gives them, and their codes do not exist here.",
    ),
    Difference(
        "3 ioctl",
        "There is one device node, and its file mode decides who may open it.",
        source="T:api",
        differs="Whoever can connect to the partition's device endpoint may: an ipc socket has a file mode, too.",
    ),
    Difference(
        "3 ioctl",
        "The ioctl is _IOW('v', 0x20) with the structure; any other is EINVAL.",
        source="T:uapi",
        differs="It is a message of its own; one that the link does not have is refused with UNKNOWN_TYPE.",
    ),
    Difference(
        "3 ioctl",
        "VAS_TX_WIN_OPEN is encoded as 0x80407620 on powerpc; the number 1 of the documentation is wrong.",
        source="T:uapi",
        differs="The message has a name and no number.",
    ),
    Difference(
        "3 ioctl",
        "A sample udev rule gives the device node mode 0666, so that every user may open it.",
        source="T:self 99-nx-gzip.rules",
        differs="There is no node and no rule: who may use the partition's socket may open the device.",
    ),
    Difference(
        "3 ioctl",
        "A bad user pointer is EFAULT.",
        source="T:api",
        differs="The attributes come in a message: what cannot be decoded is refused with MALFORMED.",
    ),
    Difference(
        "3 ioctl",
        "Reserved fields should be 0 and are not checked.",
        source="T:api",
        differs="The message has no reserved fields; one with an unknown field is refused.",
    ),
    Difference(
        "3 ioctl",
        "Without the driver's operations registered an ioctl is EACCES.",
        source="T:api",
        differs="They are always there; a partition without copy/paste has no device, which is ENODEV.",
    ),
    Difference(
        "3 ioctl",
        "A fault interrupt that cannot be mapped is EINVAL, one that cannot be requested the error of request_irq.",
        source="K:vas.c",
        differs="An interrupt is a message that names its window: nothing has to be mapped or requested.",
    ),
    Difference(
        "3 ioctl",
        "A caller without an address space is EPERM.",
        source="T:api",
        differs="Every caller is a process.",
    ),
    Difference(
        "3 ioctl",
        "Without memory for the window the ioctl is ENOMEM.",
        source="K:vas.c",
        differs="Tables have limits: a process that has reached its limit of descriptors or mappings gets EMFILE.",
    ),
    Difference(
        "3 ioctl",
        "Linux offers the device only with radix page tables.",
        source="K:vas.c",
        differs="There are no page tables, and nothing that could be another kind.",
    ),
    Difference(
        "3 mmap",
        "The page is mapped shared, for reading and writing.",
        source="T:doc",
        differs="The message has a length and an offset; a mapping has no protection.",
    ),
    Difference(
        "3 mmap",
        "The page is 64 KiB or 4 KiB, as the kernel was built.",
        source="A:api",
        differs="4096 bytes.",
    ),
    Difference(
        "3 mmap",
        "Without the driver's operations registered mmap is EACCES, after the check for a window.",
        source="A:api",
        differs="They are always there.",
    ),
    Difference(
        "3 paste",
        "Programs paste to the mapping + 0x400.",
        source="LNX:lib/gzip_vas.c",
        differs="A paste names window and token; the page has no inside.",
    ),
    Difference(
        "3 paste",
        "The kernel reads the instruction that faulted and knows a paste by its opcode.",
        source="A:api",
        differs="The process says which it was, a paste or a load.",
    ),
    Difference(
        "3 paste",
        "An instruction that cannot be read is run again.",
        source="A:api",
        differs="The process says which it was: it can always be told.",
    ),
    Difference(
        "3 paste",
        "A failed paste has CR0 bits 0 to 2 cleared and SO kept, and the instruction is stepped over.",
        source="A:api",
        differs="There are no registers: the fault is answered with paste_failed, and the library raises PasteRefused.",
    ),
    Difference(
        "3 faults",
        "The signal is SEGV_MAPERR with EFAULT as its si_errno.",
        source="T:api",
        differs="The message has signal, address and thread.",
    ),
    Difference(
        "3 faults",
        "If the thread that opened the window is gone the leader of its group gets block and signal.",
        source="T:api",
        differs="The kernel knows processes, not whether their threads live: the opener's thread id is told anyway.",
    ),
    Difference(
        "3 faults",
        "Any status block that is not writable in the process raises the signal.",
        source="T:api",
        differs="Only address 0 is mapped nowhere; where else its blocks are is the process's own business.",
    ),
    Difference(
        "3 lifetime",
        "The unmapping of a forked child's copy of the mapping trips a WARN, because the window remembers another one.",
        source="A:api",
        differs="A child inherits no mapping; the library raises ForkedProcess before anything is sent.",
    ),
    Difference(
        "4 files",
        "Up to v5.18 what was written for QoS was ignored and the hypervisor asked.",
        source="ML:985e48088f",
        differs="v5.19 is followed: the number written counts.",
    ),
    Difference(
        "5 credits",
        "Nothing says that credits depend on whether a shared partition is capped.",
        source="ADD",
        differs="Partitions are neither capped nor uncapped: the entitled capacity is all that counts.",
    ),
    Difference(
        "5 triggers",
        "Before v6.1 shared partitions followed their entitlement only when virtual processors changed.",
        source="LNX:test/serial-tests/credit_utils.c",
        differs="v6.1 is followed.",
    ),
    Difference(
        "5 races",
        "The lock of the address space is taken before the one of the window's mapping, everywhere.",
        source="K:vas.c",
        differs="The kernel handles one message at a time: a page fault and the unmapping of its page cannot meet.",
    ),
    Difference(
        "5 races",
        "The interrupt is never masked, because the hypervisor drops one that comes while it is.",
        source="K:vas.c",
        differs="Interrupts are messages that wait until they are read; a lost one is repeated.",
    ),
    Difference(
        "5 migration",
        "Every processor joins, the last one asks firmware to be suspended; after the move the kernel looks at "
        "firmware features and the device tree again.",
        source="K:mobility.c",
        differs="One H_JOIN stands for all of it, and there is nothing to look at again.",
    ),
    Difference(
        "5 migration",
        "Between the hypervisor's preparation and VAS_SUSPEND every request of the partition faults.",
        source="ML:4d2d493563",
        differs="The hypervisor prepares nothing: requests work until the kernel closes their windows.",
    ),
    Difference(
        "7 libnxz",
        "libnxz finds out from the device tree, or from /proc/powerpc/lparcfg, whether it is on PowerVM or "
        "on bare metal.",
        source="LNX:lib/nx_zlib.c",
        differs="An Lpar is always a PowerVM partition; the numbers for bare metal do not apply.",
    ),
    Difference(
        "7 libnxz",
        "It looks for the CSB every 100 ticks and sleeps between looks, up to 1 ms, after 110,000 ticks.",
        source="LNX:lib/gzip_vas.c",
        differs="The CSB is a message: whoever waits for it sleeps until it comes.",
    ),
    Difference(
        "7 libnxz",
        "All pages of a job are touched before it is submitted.",
        source="LNX:lib/nx_zlib.c",
        differs="Operands travel with the request; their pages are present unless a test says that they are absent.",
    ),
    Difference(
        "7 libnxz",
        "The retry of a Wrap job after CC 250 tests for the wrong outcome, so that such a job is not submitted again.",
        source="LNX:lib/nx_deflate.c",
        differs="No Wrap jobs are submitted, so there is nothing to retry.",
    ),
    Difference(
        "7 libnxz",
        "Input is gathered up to cache_threshold (8192 bytes) before a job, and at most soft_copy_threshold "
        "(1024 bytes) is copied by the processor.",
        source="LNX:lib/nx_zlib.c",
        differs="Every call brings its whole input: nothing is gathered or copied.",
    ),
    Difference(
        "7 libnxz",
        "cache_threshold is at most the size of a page.",
        source="LNX:lib/nx_zlib.c",
        differs="Nothing is gathered, so there is no threshold that a page could limit.",
    ),
    Difference(
        "7 libnxz",
        "Trace, log file, buffer sizes, strategy, device number, pinning and the page-fault limit have "
        "environment variables.",
        source="LNX:lib/nx_zlib.c",
        differs="Only the selectors are read; what is left has parameters of NxGzip, or metrics and the message hook.",
    ),
    Difference(
        "7 libnxz",
        "A configuration file (NX_GZIP_CONFIG, by default ./nx-zlib.conf) sets the same things; the environment wins.",
        source="LNX:lib/nx_zlib.c",
        differs="There is no file: a program passes its parameters.",
    ),
    Difference(
        "7 libnxz",
        "On bare metal the delays are three times as long, a refused paste is repeated for 60 s, and a job "
        "may have 64 MiB.",
        source="LNX:lib/nx_zlib.c",
        differs="There is no bare metal here.",
    ),
    Difference(
        "7 libnxz",
        "The kernel's selftest client gives up after 5000 pastes, 2e8 looks at the CSB, or 500 faults of a chunk.",
        source="T:self",
        differs="Window.run is bounded by time: the timeout of the call.",
    ),
)
