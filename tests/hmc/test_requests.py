"""A console whose session ends: what changes nothing is asked again, of a change it is said that it is not known."""

from __future__ import annotations

import pytest

from hmc.requests import CHANGES, ConsoleRequests, NotKnown
from protocol.clock import SECOND_US
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    HoldChanged,
    HoldNotifications,
    MigratePartition,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    Windows,
)
from protocol.dialer import Identity
from protocol.effects import Dial, Effects, Send
from protocol.link import CONSOLE
from protocol.listener import Listener
from protocol.message import Message, Request
from protocol.refusals import RefusalCode
from protocol.session import Called, Terms
from protocol.session_messages import Refused
from protocol.wire import decode, encode, refuse

TERMS = Terms(by_beats=False, lease_us=SECOND_US)
MIGRATE = MigratePartition(lpar="lp1", hold_ms=0, wait_ms=1_000)
CHANGE_OF_EACH_KIND: list[Request] = [
    MIGRATE,
    ChangeProcessors(lpar="lp1", cores=1, wait_ms=1_000),
    SetEntitlement(lpar="lp1", hundredths=10, wait_ms=1_000),
    SetQosCredits(lpar="lp1", credits=2, wait_ms=1_000),
]


def applied(lpar: str = "lp1") -> ConfigurationApplied:
    return ConfigurationApplied(lpar=lpar, generation=1, running=True, total_before=1, total_after=1)


class Bench:
    """A console's requests and the listening end of a hypervisor that answers when it is told to."""

    def __init__(self) -> None:
        self.now_us = SECOND_US
        self.connection = 0
        identity = Identity("hmc", "hmc-1", bytes(16), "local", 1, {})
        self.console = ConsoleRequests("ipc:///run/hmc", identity, lambda count: b"n" * count)
        self.asked: list[Called] = []
        self.refuses: Refused | None = None
        self.epochs = {"": 0}
        self.restart()
        self.console.start(self.now_us)
        self.pump()

    def restart(self) -> None:
        """A hypervisor without any session."""
        self.effects = Effects()
        self.listener = Listener(CONSOLE.name, TERMS, self.effects, bytes, admit=lambda _hello: self.refuses)
        self.listener.restore([], self.epochs, self.now_us)

    def pump(self) -> None:
        moved = True
        while moved:
            up, down = self.console.effects.take().transmissions, self.effects.take().transmissions
            moved = bool(up or down)
            for wish in up:
                if isinstance(wish, Dial):
                    self.connection += 1
                elif isinstance(wish, Send):
                    peer = b"%d" % self.connection
                    for event in self.listener.receive(peer, decode(encode(wish.envelope), CONSOLE.up), self.now_us):
                        self.asked += [event] if isinstance(event, Called) else []
            for wish in down:
                if isinstance(wish, Send) and wish.peer == b"%d" % self.connection:
                    self.console.receive(decode(encode(wish.envelope), CONSOLE.down), self.now_us)

    def advance(self, seconds: int) -> None:
        for _ in range(10 * seconds):
            self.now_us += SECOND_US // 10
            self.listener.tick(self.now_us)
            self.console.tick(self.now_us)
            self.pump()

    def ask(self, request: Request) -> int:
        ticket = self.console.ask(request, self.now_us)
        self.pump()
        return ticket

    def answer(self, reply: Message) -> None:
        """Answer what was asked last."""
        called = self.asked[-1]
        self.listener.answer(called.session, called.number, reply)
        self.pump()

    def lose_session(self) -> None:
        """The hypervisor ends the console's session; a new one may be had."""
        self.epochs = dict(self.listener.epochs)
        self.restart()
        self.advance(6)


@pytest.mark.parametrize("change", CHANGE_OF_EACH_KIND, ids=lambda change: change.type)
def test_of_a_change_whose_session_died_it_is_said_that_its_outcome_is_not_known(change: Request) -> None:
    bench = Bench()
    ticket = bench.ask(change)
    bench.lose_session()
    outcome = bench.console.answers[ticket]
    assert isinstance(outcome, NotKnown)
    assert outcome.refusal.code is RefusalCode.SESSION_DEAD
    assert [called.body for called in bench.asked] == [change], "it is not asked for a second time"
    assert bench.console.ended is None


def test_every_change_is_one_that_is_not_repeated() -> None:
    assert [change for change in CHANGE_OF_EACH_KIND if not isinstance(change, CHANGES)] == []
    assert len({type(change) for change in CHANGE_OF_EACH_KIND}) == len(CHANGES)


def test_what_changes_nothing_is_asked_again_in_the_next_session() -> None:
    bench = Bench()
    tickets = [bench.ask(QueryWindows()), bench.ask(HoldNotifications(lpar="lp1", hold=True))]
    bench.lose_session()
    assert [called.body.type for called in bench.asked] == ["query_windows", "hold_notifications"] * 2
    bench.answer(HoldChanged(hold=True))
    bench.asked.pop()
    bench.answer(Windows(rows=(), more=False))
    answers = [bench.console.answers[ticket] for ticket in tickets]
    assert answers == [Windows(rows=(), more=False), HoldChanged(hold=True)]


def test_after_a_lost_session_the_console_goes_on_in_a_new_one() -> None:
    bench = Bench()
    lost = bench.ask(MIGRATE)
    bench.lose_session()
    ticket = bench.ask(ChangeProcessors(lpar="lp1", cores=1, wait_ms=1_000))
    assert ticket != lost
    bench.answer(applied())
    assert bench.console.answers[ticket] == applied()
    assert bench.console.established


def test_a_console_that_is_not_let_in_says_why() -> None:
    bench = Bench()
    bench.refuses = refuse(RefusalCode.UNKNOWN_NAME, "one of the roles hmc", "a stranger")
    bench.ask(MIGRATE)
    bench.lose_session()
    assert bench.console.ended == bench.refuses


def test_an_answer_about_something_else_is_no_answer() -> None:
    bench = Bench()
    ticket = bench.ask(HoldNotifications(lpar="lp1", hold=True))
    bench.answer(HoldChanged(hold=False))
    refusal = bench.console.answers[ticket]
    assert isinstance(refusal, Refused)
    assert "asked for" in refusal.came


def test_of_a_change_whose_answer_names_another_partition_it_is_said_that_its_outcome_is_not_known() -> None:
    bench = Bench()
    ticket = bench.ask(MIGRATE)
    bench.answer(applied("lp2"))
    outcome = bench.console.answers[ticket]
    assert isinstance(outcome, NotKnown)
    assert "came lpar lp2, asked for lp1" in outcome.why
    assert outcome.why.startswith("body: expected an answer to what was asked")


def test_a_refusal_of_the_hypervisor_is_passed_on() -> None:
    bench = Bench()
    ticket = bench.ask(MIGRATE)
    failure = ConsoleFailure(code="timeout", text="it took too long")
    bench.answer(failure)
    assert bench.console.answers[ticket] == failure


def test_a_console_whose_bye_was_heard_and_not_answered_has_ended() -> None:
    bench = Bench()
    bench.lose_session()
    epochs = dict(bench.listener.epochs)
    bench.console.dialer.say_bye()
    bench.console.effects.take()
    bench.lose_session()
    assert bench.console.ended is not None
    assert bench.console.ended.code is RefusalCode.SESSION_DEAD
    assert bench.listener.epochs == epochs, "it asks for no other session"
