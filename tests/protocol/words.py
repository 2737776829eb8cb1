"""Messages and short questions that the tests of sessions share."""

from __future__ import annotations

from protocol.hcall_messages import Configuration, ConfigurationChange, ConfigurationKind, QueryConfiguration
from protocol.refusals import RefusalCode
from protocol.session import (
    Called,
    Closed,
    Ending,
    Session,
)
from protocol.session_messages import Hello, Refused, Welcome
from protocol.wire import Envelope
from tests.protocol.bench import TERMS, Bench

QUERY = QueryConfiguration(generation=0)
ANSWER = Configuration(generation=7)
CHANGE = ConfigurationChange(generation=7, kind=ConfigurationKind.CPU, amount=0)
LEASE_END_US = TERMS.lease_us + TERMS.drift_margin_us


def hello(name: str = "lp1", incarnation: bytes = b"i" * 16, epoch: int = 0, secret: bytes = b"") -> Hello:
    return Hello(role="lpar", name=name, incarnation=incarnation, epoch=epoch, secret=secret)


def welcome_of(answers: list[Envelope]) -> Welcome:
    bodies = [envelope.body for envelope in answers]
    assert len(bodies) == 1, bodies
    assert isinstance(bodies[0], Welcome)
    return bodies[0]


def refusals_of(answers: list[Envelope]) -> list[RefusalCode]:
    return [envelope.body.code for envelope in answers if isinstance(envelope.body, Refused)]


def endings(bench: Bench) -> list[tuple[int, Ending]]:
    return [(event.session.epoch, event.ending) for event in bench.of(Closed)]


def answer_everything(bench: Bench) -> None:
    """Carry out every request that the listener has reported so far."""
    for event in bench.of(Called):
        bench.listener.answer(event.session, event.number, ANSWER)
    bench.settle()


def restart(bench: Bench) -> None:
    """The listening process dies and comes back with what its journal held; connections are made anew."""
    bench.lose()
    kept = [
        Session(old.role, old.name, old.epoch, old.incarnation, old.secret) for old in bench.listener.sessions.values()
    ]
    epochs = dict(bench.listener.epochs)
    bench.listener = bench.make_listener()
    bench.listener.restore(kept, epochs, bench.now_us)
    for host in bench.hosts:
        bench.reconnect(host)
