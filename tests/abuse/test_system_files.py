"""Wrong system files: each is refused with file, line, key, what was expected and what came."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from protocol.system import SettingsError, parse_system

SAMPLE = (Path(__file__).parents[2] / "deploy" / "system.toml").read_text()
ORDER = "expected beat_ms < suspect_ms <= lpar_lease_ms < fence_ms"
ANOTHER_LP1 = '[[lpar]]\nname = "lp1"\ncores = 1\n'

WRONG = [
    # What is no TOML.
    ("[system]", "[system", "[system", "", "Expected ']' at the end of a table declaration"),
    ("credits_per_core = 20", "credits_per_core 20", "credits_per_core 20", "", "Expected '=' after a key"),
    ('reopen = "kernel"', 'reopen = "kernel', 'reopen = "kernel', "", "Expected newline or end of document"),
    ("beat_ms = 1000", "beat_ms = 1000\nbeat_ms = 1000", "beat_ms = 1000 ", "", "Cannot overwrite a value"),
    ("cores = 3", "cores = 03", "cores = 03", "", "Expected newline or end of document after a statement"),
    # Values of the wrong kind or size, and keys that there are not.
    ("accelerators = true", "accelerators = 1", "accelerators = 1", "accelerators", "valid boolean (came: 1)"),
    ("accelerators = true", 'accelerators = "no"', "accelerators =", "accelerators", "valid boolean (came: 'no')"),
    ("accelerators = true", "accelerator = true", "accelerator =", "accelerator", "there is no such key"),
    ("low_limit_bytes = 65536", "low_limit_bytes = -1", "low_limit", "low_limit_bytes", "equal to 0 (came: -1)"),
    ("low_limit_bytes = 65536", "low_limit_bytes = 64.0", "low_limit", "low_limit_bytes", "(came: 64.0)"),
    ("low_limit_bytes = 65536", "low_limit_bytes = 2097153", "low_limit", "low_limit_bytes", "(came: 2097153)"),
    ("dynamic_qos = true", "dynamic_qos = 0", "dynamic_qos", "lpar.0.dynamic_qos", "valid boolean (came: 0)"),
    ("home_chip = 0", "home_chip = -1", "home_chip = -1", "lpar.0.home_chip", "equal to 0 (came: -1)"),
    ("qos_credits = 0", "qos_credits = 65536", "qos_credits = 65536", "lpar.0.qos_credits", "65535 (came: 65536)"),
    ("fifo_depth = 8", "fifo_depth = 0", "fifo_depth = 0", "chip.0.fifo_depth", "equal to 1 (came: 0)"),
    ('qos_reduces_default = "lpar"', 'qos_reduces_default = "all"', "qos_reduces", "qos_reduces_default", "'lpar' or"),
    ('name = "lp2"', 'name = "lp 2"', 'name = "lp 2"', "lpar.1.name", "letters, digits and _ . : @ -"),
    ('mode = "shared"', 'mode = "capped"', 'mode = "capped"', "lpar.2.mode", "(came: 'capped')"),
    ('unit = "nx0"', "", "[[chip]]", "chip.0.unit", "Field required"),
    # Values that do not fit together.
    ("beat_ms = 1000", "beat_ms = 3000", "beat_ms = 3000", "times.beat_ms", ORDER),
    ("fence_ms = 30000", "fence_ms = 10000", "lpar_lease_ms", "times.lpar_lease_ms", f"{ORDER} (came: lpar_lease_ms"),
    ("home_chip = 0", "home_chip = 7", "home_chip = 7", "lpar.0.home_chip", "is none of the chips [0, 1]"),
    ('name = "lp3"', 'name = "nx1"', 'name = "nx1"', "lpar.2.name", "the name nx1 is used twice"),
    ('name = "lp3"', 'name = "hypervisor"', 'name = "hyper', "lpar.2.name", "the name hypervisor is used twice"),
    ("number = 1", "number = 0", "number = 0", "chip.1.number", "the chip number 0 is used twice"),
    ("cores = 3", "cores = 1", "hundredths = 80", "lpar.1.cores", "480 hundredths of a processor, the chips have 300"),
    ("hundredths = 80", "hundredths = 101", "hundredths = 101", "lpar.2.hundredths", "want 501 hundredths"),
    ("hundredths = 80", "hundredths = 4", "hundredths = 4", "lpar.2.hundredths", "hundredths = 5 or more"),
    ("hundredths = 80", "hundredths = 80\ncores = 1", "cores = 1", "lpar.2.cores", "and no cores"),
    ("qos_credits = 0", "qos_credits = 129", "qos_credits = 129", "lpar.0.qos_credits", "have 129 QoS credits"),
]  # fmt: skip
"""What of the sample is replaced by what, the line that is to blame begins with, its key, words of the complaint."""


def line_beginning(text: str, start: str) -> set[int]:
    return {number for number, line in enumerate(text.splitlines(), start=1) if line.startswith(start)}


@pytest.mark.parametrize(("right", "wrong", "start", "key", "words"), WRONG)
def test_a_wrong_system_file_is_refused_with_its_line_its_key_and_what_was_expected(
    right: str, wrong: str, start: str, key: str, words: str
) -> None:
    assert right in SAMPLE
    text = SAMPLE.replace(right, wrong, 1)
    with pytest.raises(SettingsError) as caught:
        parse_system(text, "sys.toml")
    said = str(caught.value)
    line = int(said.removeprefix("sys.toml:").partition(":")[0])
    if key == "lpar.1.cores":
        # The second partition is the first that does not fit.
        assert text.splitlines()[line - 1].startswith("cores = 2")
    else:
        assert line in line_beginning(text, start), said
    assert said.startswith(f"sys.toml:{line}: {key}{': ' if key else ''}")
    assert words in said


def test_every_process_refuses_the_file_before_it_does_anything(tmp_path: Path) -> None:
    file, runtime = tmp_path / "sys.toml", tmp_path / "run"
    file.write_text(SAMPLE.replace("accelerators = true", "accelerators = 1"))
    line = line_beginning(file.read_text(), "accelerators").pop()
    for who in (["hypervisor", "--ledger", str(tmp_path / "ledger")], ["lpar", "lp1"], ["nxunit", "nx0"]):
        done = subprocess.run(
            [sys.executable, "-m", "vasbus", "serve", *who, "--system", "sys.toml", "--runtime", str(runtime)],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == ExitCode.SETTINGS
        said = " ".join(done.stderr.split())
        expected = f"vasbus: sys.toml:{line}: accelerators: Input should be a valid boolean (came: 1)"
        assert said == expected
    assert not runtime.exists()
    assert not (tmp_path / "ledger").exists()
