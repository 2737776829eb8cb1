"""Rows with any values in them: either the check says that they make no sense, or the hypervisor works with them."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import event, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hypervisor.core import HypervisorCore
from hypervisor.fsck import check
from hypervisor.fsck_system import compare
from hypervisor.row_meaning import senseless
from hypervisor.rows import Row
from protocol.clock import SECOND_US
from protocol.effects import Send
from protocol.wire import encode
from tests.hypervisor.cluster import settings
from tests.hypervisor.test_fsck import SOUND

VALUES = {
    "int": st.one_of(st.integers(-1, 300), st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from([1 << 32, 65_536])),
    "str": st.one_of(
        st.sampled_from(["", "lp1", "lp9", "nx0", "open", "closing", "reserved", "quiesced", "queued", "moved", "qos"]),
        st.sampled_from(["hcall", "fabric", "hmc", "shared", "cpu", "migration", "expired", "settled", "fetched"]),
        st.text(max_size=4),
    ),
    "bytes": st.one_of(st.binary(max_size=20), st.sampled_from([bytes(16), bytes(8), b"\x80", b"\x81\xa1a\xa1b"])),
}
PLACES = [(index, field.name, str(field.type)) for index, row in enumerate(SOUND) for field in fields(row)]


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """The rows of a sound ledger with some values otherwise, and some rows twice or not at all."""
    made = list(SOUND)
    for index, name, kind in draw(st.lists(st.sampled_from(PLACES), max_size=4)):
        made[index] = replace(made[index], **{name: draw(VALUES[kind])})
    return [row for row in made for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0])))]


@given(rows())
@example(list(SOUND))
@hypothesis_settings(max_examples=400, deadline=None)
def test_a_hypervisor_starts_with_whatever_the_check_lets_pass(made: list[Row]) -> None:
    found = senseless(made)
    event("senseless" if found else "makes sense")
    assert [str(finding) for finding in check(made)][: len(found)] == [str(finding) for finding in found]
    if found:
        return
    system = settings()
    compare(system, made)
    core = HypervisorCore(system, made, lambda count: bytes(count))
    core.start(0)
    for now_us in range(0, 45 * SECOND_US, 5 * SECOND_US):
        core.tick(now_us)
        core.wake_us()
        core.metrics()
        for wish in core.effects.take().transmissions:
            assert isinstance(wish, Send)
            encode(wish.envelope)
    core.console.status(core.recovering)
    core.console._windows(None, 0)
