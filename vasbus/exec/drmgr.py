"""drmgr: dynamic reconfiguration, as the partition's administrator or the console's agent calls it.

Source: PU:src/drmgr (domain.md 6). Entitled capacity and QoS credits are written to the files that drmgr writes.
Cores come and go by firmware calls on the real machine; here the console is asked for one core after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hmc.connection import CHANGE_WAIT_S, ConsoleRefused
from lpar.client import KernelFailure
from protocol.console_messages import LparStatus
from protocol.system import ProcessorMode
from vasbus.exec.drmgr_options import BadOption, Options, parse
from vasbus.exec.program import OnPartition

LPARCFG = "/proc/ppc64/lparcfg"
UPDATE_TOTAL_CREDITS = "/sys/devices/virtual/misc/vas/vas0/gzip/qos_capabilities/update_total_credits"
SYSTEM_PARAMETERS = {"ent_capacity": "partition_entitled_capacity", "variable_weight": "capacity_weight"}
ABSENT = {"mem": "memory", "slot": "I/O slots", "phb": "host bridges", "pci": "PCI adapters", "port": "ports"}
"""Connector types that exist for drmgr and not in this system."""
CAPABILITIES = (
    "cpu_dlpar", "mem_dlpar", "slot_dlpar", "phb_dlpar", "hea_dlpar", "pmig", "cpu_entitlement", "mem_entitlement",
    "slb_resize", "phib",
)  # fmt: skip
"""What -C tells of, in drmgr's order."""

SUCCESS, FAILURE, INVALID = 0, 1, -1
ERROR, WARN, DEBUG = 1, 2, 4
"""From which detail level on (-d) a message is printed."""


def drmgr(place: OnPartition, words: Sequence[str]) -> int:
    """The exit code: 0, 1 or an errno where a change failed, 255 where it was not begun."""
    try:
        options = parse(words)
    except BadOption as error:
        place.err.write(f"{error}\n{Options().usage}")
        return INVALID
    manager = Drmgr(place, options)
    if options.capabilities:
        return manager.print_capabilities()
    if options.help:
        place.err.write(options.usage)
        return SUCCESS
    return manager.run()


@dataclass(frozen=True, slots=True)
class Drmgr:
    """One call of drmgr."""

    place: OnPartition
    options: Options

    def say(self, level: int, text: str) -> None:
        """A message for people, if the detail level asked for is high enough."""
        if level <= self.options.detail:
            self.place.err.write(f"{text}\n")

    def fail(self, text: str, code: int = INVALID) -> int:
        self.say(ERROR, text)
        return code

    def run(self) -> int:
        """By connector type."""
        connector = self.options.connector
        if connector == "cpu":
            return self._cpu()
        if connector == "acc":
            return self._acc()
        if not connector:
            return self.fail("A connector type (-c) must be specified")
        if connector in ABSENT:
            what = ABSENT[connector]
            return self.fail(f"This system has no {what} to add or remove; credits would not depend on them")
        return self.fail(f'Dynamic reconfiguration is not supported for connector type "{connector}" on this system')

    def print_capabilities(self) -> int:
        """-C: what can be reconfigured, as `name=yes` or `no`."""
        capable = {"cpu_dlpar": self._is_dedicated(), "cpu_entitlement": self._parameter("ent_capacity") is not None}
        answers = (f"{name}={'yes' if capable.get(name) else 'no'}" for name in CAPABILITIES)
        self.place.out.write(",".join(answers) + "\n")
        return SUCCESS

    # -c cpu.

    def _cpu(self) -> int:
        options = self.options
        if options.action not in ("add", "remove"):
            return self.fail("The '-r' or '-a' option must be specified for CPU operations.")
        if options.quantity < 0:
            return self.fail(f"-q takes a quantity of 1 or more, came {options.quantity}")
        quantity = options.quantity or 1
        if options.parameter in SYSTEM_PARAMETERS:
            return self._update_parameter(options.parameter, quantity)
        if options.parameter:
            return self.fail(f"-p takes {' or '.join(SYSTEM_PARAMETERS)}, came {options.parameter!r}")
        if options.connector_name:
            return self.fail("-s: the cores of this system are not told apart; say how many with -q")
        if not self._is_dedicated():
            text = "has shared processors: virtual processors are not modelled, and credits do not follow them"
            return self.fail(f"{self.place.name} {text}; use -p ent_capacity")
        return self._add(quantity) if options.action == "add" else self._remove(quantity)

    def _add(self, quantity: int) -> int:
        """Some but not all is a success, as in drmgr."""
        added = 0
        while added < quantity and self._change(+1):
            added += 1
        self.say(DEBUG, f"Acquired {added} of {quantity} requested cpu(s).")
        return SUCCESS if added else FAILURE

    def _remove(self, quantity: int) -> int:
        removed = 0
        while removed < quantity:
            if self._status().cores == 1:
                self.say(WARN, "Cannot remove the last CPU")
                break
            if not self._change(-1):
                break
            removed += 1
        self.say(DEBUG, f"Removed {removed} of {quantity} requested cpu(s)")
        return SUCCESS if removed == quantity else INVALID

    def _change(self, cores: int) -> bool:
        """One core more or less; its name goes to the output."""
        before = self._status().cores
        try:
            self.place.console.change_processors(self.place.name, cores, self.options.wait_s or CHANGE_WAIT_S)
        except ConsoleRefused as refused:
            self.say(ERROR, "Could not find available cpu.")
            self.say(ERROR, str(refused))
            return False
        self.place.out.write(f"CPU {max(before, before + cores)}\n")
        return True

    def _update_parameter(self, parameter: str, quantity: int) -> int:
        """update_sysparm: the change is relative, the file takes only absolute values."""
        code = self._write_parameter(parameter, quantity)
        if code != SUCCESS:
            self.say(ERROR, f"Could not update system parameter {parameter}")
        return code

    def _write_parameter(self, parameter: str, quantity: int) -> int:
        if self._parameter("ent_capacity") is None:
            return self.fail("CPU entitlement capability is not enabled on this platform.")
        name, current = SYSTEM_PARAMETERS[parameter], self._parameter(parameter)
        if current is None:
            return self.fail(f"Could not get current system parameter value of {name} ({parameter})")
        if self.options.action == "remove" and quantity > current:
            text = f"Cannot reduce system parameter value {parameter} by more than is currently available."
            return self.fail(f"{text}\nCurrent value: {current:x}, asking to remove: {quantity:x}", FAILURE)
        wanted = current + quantity if self.options.action == "add" else current - quantity
        try:
            self.place.files.write(LPARCFG, f"{name}={wanted}\n")
        except KernelFailure as failure:
            return self.fail(str(failure))
        return SUCCESS

    def _parameter(self, parameter: str) -> int | None:
        """The present value of a system parameter; None where lparcfg does not show it."""
        lines = dict(line.partition("=")[::2] for line in self.place.files.read(LPARCFG).splitlines())
        value = lines.get(SYSTEM_PARAMETERS[parameter])
        return None if value is None else int(value)

    # -c acc.

    def _acc(self) -> int:
        """The type test is the other way round in the real source, which refuses gzip (domain.md 6); not so here."""
        accelerator, quantity = self.options.accelerator, self.options.quantity
        if not accelerator:
            return self.fail("-t gzip must be specified")
        if accelerator != "gzip":
            return self.fail(f"Invalid Accelerator type: {accelerator}")
        if quantity < 0:
            return self.fail(f"Invalid QoS credit count {quantity}")
        try:
            self.place.files.write(UPDATE_TOTAL_CREDITS, f"{quantity}")
        except FileNotFoundError:
            return self.fail(f'Could not open "{UPDATE_TOTAL_CREDITS}" to write QoS credits')
        except KernelFailure as failure:
            self.say(DEBUG, str(failure))
            return self.fail("Could not write QoS credits", failure.errno or FAILURE)
        self.say(DEBUG, "Successful update total QoS credits")
        return SUCCESS

    def _status(self) -> LparStatus:
        return next(lpar for lpar in self.place.console.system().lpars if lpar.name == self.place.name)

    def _is_dedicated(self) -> bool:
        return self._status().mode == ProcessorMode.DEDICATED
