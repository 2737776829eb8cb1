"""copy and paste: numbers, repeats, faults and what the kernel makes of them."""

from __future__ import annotations

import errno
import zlib

import pytest

from lpar.client import (
    BusError,
    Csb,
    KernelFailure,
    Lpar,
    MessageRefused,
    PasteArea,
    PasteRefused,
    Request,
    RequestLost,
)
from lpar.client.paste_links import LINKS_LIMIT, UNANSWERED_LIMIT
from lpar.client.pastes import PasteTraffic
from lpar.client.timers import Timers
from protocol import device_messages as device
from protocol.codes import CompletionCode, FaultOutcome, FunctionCode, KernelReason
from protocol.effects import Dial, Effects, Hangup
from protocol.message import PasteAddress
from protocol.paste_messages import Paste, PasteAccepted
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.wire import Envelope, refuse
from tests.client.world import World

DATA = b"window credit " * 400
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, 8192)
REPEAT_US = 500_000


@pytest.fixture
def area(lpar: Lpar) -> PasteArea:
    return lpar.open_window().map()


def numbers(world: World) -> list[int]:
    """The numbers of the pastes that were sent, in order."""
    return [envelope.body.number for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]


def faults(world: World) -> int:
    return sum(isinstance(body, device.Fault) for body in world.kernel.executed)


def assert_done(csb: Csb) -> None:
    assert csb.code is CompletionCode.OK
    assert zlib.decompress(csb.target, -15) == DATA


def test_an_accepted_paste_ends_in_one_csb(area: PasteArea) -> None:
    csb = area.paste(REQUEST).wait()
    assert_done(csb)
    assert (csb.processed_bytes, csb.crc32, csb.adler32) == (len(DATA), zlib.crc32(DATA), zlib.adler32(DATA))
    assert not csb.is_partial
    assert not csb.is_terminated


def test_a_csb_can_be_had_more_than_once(area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    assert pending.wait() == pending.wait()


def test_numbers_rise_with_every_attempt(world: World, area: PasteArea) -> None:
    for _ in range(3):
        assert_done(area.paste(REQUEST).wait())
    assert numbers(world) == [1, 2, 3]


def test_a_refused_paste_says_cr0_and_nothing_else(world: World, area: PasteArea) -> None:
    world.nx0.refuse_next = world.nx1.refuse_next = 1
    with pytest.raises(PasteRefused) as caught:
        area.paste(REQUEST)
    assert (caught.value.cr0, caught.value.fault) == (0, None)


def test_an_unanswered_paste_is_repeated_with_the_same_number(world: World, area: PasteArea) -> None:
    world.nx0.swallow_next = world.nx1.swallow_next = 2
    began_us = world.now_us
    assert_done(area.paste(REQUEST).wait())
    assert numbers(world) == [1, 1, 1]
    assert world.now_us - began_us < 2 * REPEAT_US + 10_000


def test_completed_may_come_without_accepted(world: World, area: PasteArea) -> None:
    def forge(_key: str, envelope: Envelope) -> None:
        world.loss = 1.0 if isinstance(envelope.body, Paste) else 0.0

    world.before_delivery = forge
    world.later(10_000, lambda: setattr(world, "loss", 0.0))
    world.later(10_000, lambda: setattr(world, "before_delivery", lambda _key, _envelope: None))
    assert_done(area.paste(REQUEST).wait())
    assert numbers(world) == [1, 1]
    assert world.nx0.executed + world.nx1.executed == 1


def test_a_lost_completion_is_asked_for_again(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.loss = 1.0
    world.pass_time(10_000)
    world.loss = 0.0
    assert_done(pending.wait())
    assert numbers(world) == [1, 1]


def test_a_wait_may_be_tried_again_after_its_deadline(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.nx0.mute = world.nx1.mute = True
    with pytest.raises(TimeoutError, match="did not complete a request"):
        pending.wait(timeout=1.0)
    world.nx0.mute = world.nx1.mute = False
    assert_done(pending.wait(timeout=1.0))


def test_a_second_paste_on_a_window_is_refused_until_the_first_has_completed(area: PasteArea) -> None:
    first = area.paste(REQUEST)
    with pytest.raises(PasteRefused):
        area.paste(REQUEST)
    assert_done(first.wait())
    assert_done(area.paste(REQUEST).wait())


def test_a_forgotten_request_does_not_block_its_window(world: World, area: PasteArea) -> None:
    area.paste(REQUEST)
    world.loss = 1.0
    world.pass_time(REPEAT_US)
    world.loss = 0.0
    with pytest.raises(PasteRefused):
        area.paste(REQUEST)
    world.pass_time(10_000)
    assert_done(area.paste(REQUEST).wait())


def test_a_paste_nobody_answers_ends_at_its_deadline(world: World) -> None:
    area = world.lpar(timeout=4.0).open_window().map()
    world.nx0.mute = world.nx1.mute = True
    began_us = world.now_us
    with pytest.raises(TimeoutError, match=r"nx\d at ipc://nx\d did not answer a paste"):
        area.paste(REQUEST)
    assert world.now_us - began_us == 4_000_000
    assert len(numbers(world)) == 8
    assert len(set(numbers(world))) == 1
    world.nx0.mute = world.nx1.mute = False
    assert_done(area.paste(REQUEST).wait())


def test_a_silent_connection_is_left_for_a_new_one(world: World, area: PasteArea) -> None:
    world.nx0.mute = world.nx1.mute = True
    world.later(3_200_000, lambda: setattr(world.nx0, "mute", False))
    world.later(3_200_000, lambda: setattr(world.nx1, "mute", False))
    assert_done(area.paste(REQUEST).wait())
    assert len([endpoint for endpoint in world.dialled if endpoint.startswith("ipc://nx")]) == 2


def test_a_fault_is_taken_to_the_kernel_and_the_paste_run_again(world: World, area: PasteArea) -> None:
    before = area.address
    other = world.nx0 if before is not None and before.unit == "nx1" else world.nx1
    world.kernel.move(other)
    assert area.address == before
    assert_done(area.paste(REQUEST).wait())
    assert area.address == world.kernel.windows[0].address
    assert numbers(world) == [1, 2]
    assert faults(world) == 1


def test_a_unit_that_is_not_programmed_yet_is_tried_again_with_growing_waits(world: World, area: PasteArea) -> None:
    unit = world.nx0
    world.kernel.on_lost_context = False
    world.kernel.move(unit)
    address = world.kernel.windows[0].address
    world.later(20_000, lambda: unit.program(address))
    began_us = world.now_us
    assert_done(area.paste(REQUEST).wait())
    assert 20_000 < world.now_us - began_us < 40_000
    assert faults(world) == 6
    assert len(set(numbers(world))) == len(numbers(world))


def test_a_unit_that_is_never_programmed_is_a_timeout(world: World) -> None:
    area = world.lpar(timeout=1.0).open_window().map()
    world.kernel.on_lost_context = False
    world.kernel.move(world.nx0)
    with pytest.raises(TimeoutError):
        area.paste(REQUEST)


def test_a_paste_on_a_closed_window_is_refused_by_its_kernel(world: World, area: PasteArea) -> None:
    world.kernel.suspend()
    with pytest.raises(PasteRefused) as caught:
        area.paste(REQUEST)
    assert (caught.value.cr0, caught.value.fault) == (0, FaultOutcome.PASTE_FAILED)
    assert area.address is None


def test_an_unbacked_page_faults_without_a_paste_and_comes_back(world: World, area: PasteArea) -> None:
    world.kernel.suspend()
    for _ in range(3):
        with pytest.raises(PasteRefused):
            area.paste(REQUEST)
    assert (len(numbers(world)), faults(world)) == (1, 3)
    world.kernel.resume()
    assert_done(area.paste(REQUEST).wait())
    assert faults(world) == 4


def test_a_paste_where_no_window_is_left_is_a_bus_error(world: World, area: PasteArea) -> None:
    world.kernel.move(world.nx0)
    world.kernel.mappings.clear()
    with pytest.raises(BusError):
        area.paste(REQUEST)


def test_an_unmapped_page_cannot_be_used(area: PasteArea) -> None:
    area.unmap()
    with pytest.raises(ValueError, match="unmapped"):
        area.paste(REQUEST)
    with pytest.raises(ValueError, match="unmapped"):
        area.load()


def test_a_request_that_its_unit_forgot_is_lost(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.nx0.restart()
    world.nx1.restart()
    with pytest.raises(RequestLost):
        pending.wait()


def test_a_unit_that_lost_its_memory_but_has_the_context_does_the_request_anew(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.nx0.forget_numbers()
    world.nx1.forget_numbers()
    assert_done(pending.wait())


def test_a_client_on_a_network_that_the_unit_lacks_is_told_so() -> None:
    world = World(network="blue")
    area = world.lpar().open_window().map()
    with pytest.raises(OSError, match="no endpoint on network 'blue'") as caught:
        area.paste(REQUEST)
    assert caught.value.errno == errno.EHOSTUNREACH


def test_pasting_after_the_partition_was_restarted_is_enodev(world: World, area: PasteArea) -> None:
    world.kernel.restart()
    with pytest.raises(KernelFailure) as caught:
        area.paste(REQUEST)
    assert (caught.value.errno, caught.value.reason) == (errno.ENODEV, KernelReason.DEAD)


def address(number: int) -> PasteAddress:
    return PasteAddress(
        address=number << 16,
        unit=f"nx{number}",
        endpoints={"local": f"ipc://nx{number}"},
        window_id=number,
        token=number.to_bytes(16, "big"),
    )


class Traffic:
    """Paste traffic by itself, with nobody at the other end."""

    def __init__(self) -> None:
        self.effects = Effects()
        self.timers = Timers()
        self.traffic = PasteTraffic("local", self.effects, self.timers, lambda _pending: None)

    def sent(self) -> list[Paste]:
        wishes = self.effects.take().transmissions
        bodies = [getattr(wish, "envelope", Envelope(Refused(code=RefusalCode.RETRY))).body for wish in wishes]
        return [body for body in bodies if isinstance(body, Paste)]


def test_a_refusal_of_the_message_itself_carries_its_code() -> None:
    traffic = Traffic()
    pending = traffic.traffic.submit(address(1), REQUEST, 0)
    refusal = refuse(RefusalCode.BODY, "a number", "a text")
    traffic.traffic.receive(pending.key, Envelope(refusal, number=pending.number), 1)
    assert isinstance(pending.failure, MessageRefused)
    assert pending.failure.code is RefusalCode.BODY
    assert "nx1 refused a paste" in str(pending.failure)


@pytest.mark.parametrize(("code", "state"), [(RefusalCode.STALE_TOKEN, "FAULTED"), (RefusalCode.DRAINING, "REFUSED")])
def test_a_stale_token_is_a_fault_and_a_draining_unit_a_busy_one(code: RefusalCode, state: str) -> None:
    traffic = Traffic()
    pending = traffic.traffic.submit(address(1), REQUEST, 0)
    traffic.traffic.receive(pending.key, Envelope(refuse(code, "", "")), 1)
    assert pending.state.name == state


def test_answers_to_nobody_are_ignored() -> None:
    traffic = Traffic()
    pending = traffic.traffic.submit(address(1), REQUEST, 0)
    for window_id, number in ((1, 99), (2, pending.number)):
        accepted = PasteAccepted(window_id=window_id, number=number)
        traffic.traffic.receive(pending.key, Envelope(accepted), 1)
    traffic.traffic.receive("paste:ipc://other", Envelope(PasteAccepted(window_id=1, number=pending.number)), 1)
    assert not pending.is_answered


def test_a_connection_carries_few_unanswered_pastes_at_a_time() -> None:
    traffic = Traffic()
    addresses = [
        address(1).model_copy(update={"token": bytes([number]) * 16, "window_id": number}) for number in range(6)
    ]
    pendings = [traffic.traffic.submit(place, REQUEST, 0) for place in addresses]
    assert len(traffic.sent()) == UNANSWERED_LIMIT
    first = pendings[0]
    traffic.traffic.receive(first.key, Envelope(PasteAccepted(window_id=0, number=first.number)), 1)
    traffic.traffic.abandon(pendings[1], 2)
    assert [paste.window_id for paste in traffic.sent()] == [4, 5]


def test_connections_are_bounded_and_the_idlest_is_hung_up() -> None:
    traffic = Traffic()
    for number in range(LINKS_LIMIT + 1):
        pending = traffic.traffic.submit(address(number), REQUEST, number)
        traffic.traffic.receive(pending.key, Envelope(PasteAccepted(window_id=number, number=pending.number)), number)
    wishes = traffic.effects.take().transmissions
    assert [wish.link for wish in wishes if isinstance(wish, Hangup)] == ["paste:ipc://nx0"]
    assert len([wish for wish in wishes if isinstance(wish, Dial)]) == LINKS_LIMIT + 1
    assert len(traffic.traffic.links.by_key) == LINKS_LIMIT


def test_sizes_that_no_message_carries_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="history"):
        Request(0, b"", 1, history=bytes(32_769))
    with pytest.raises(ValueError, match="in one request"):
        Request(0, bytes((4 << 20) + 1), 1)
    with pytest.raises(ValueError, match="target_bytes is a number of 32 bits"):
        Request(0, b"", 1 << 32)
    with pytest.raises(ValueError, match="crc32 is a number of 32 bits"):
        Request(0, b"", 1, crc32=-1)
    with pytest.raises(ValueError, match="a byte"):
        Request(256, b"", 1)
    with pytest.raises(ValueError, match="resume token"):
        Request(0, b"", 1, resume=bytes(17))
