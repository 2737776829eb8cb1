"""Keys and whose they are. A CURVE key pair means a role and a name; a link takes the keys of certain roles only. Pure.

A key file has one key per line, `own PRINCIPAL PUBLIC SECRET` or `public PRINCIPAL PUBLIC`, in Z85 (40 characters);
`#` begins a comment. A principal may have several public keys while they are being changed: all are accepted, and who
dials it tries them in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from protocol.principals import KeyRole as KeyRole
from protocol.principals import KeysError as KeysError
from protocol.principals import Principal as Principal
from protocol.refusals import RefusalCode
from protocol.session_messages import Hello
from protocol.system import SystemSettings
from protocol.wire import Envelope, WireError
from protocol.z85 import KEY_CHARACTERS, is_key


@dataclass(frozen=True, slots=True)
class LinkRule:
    """Whose keys a link is for: the role that listens, and those that may dial."""

    listens: KeyRole
    dial: frozenset[KeyRole]


_CONSOLES = frozenset((KeyRole.HMC, KeyRole.OBSERVER, KeyRole.CHAOS))
LINK_RULES = {
    "hcall": LinkRule(KeyRole.HYPERVISOR, frozenset((KeyRole.LPAR, KeyRole.ENROL))),
    "fabric": LinkRule(KeyRole.HYPERVISOR, frozenset((KeyRole.NX,))),
    "hmc": LinkRule(KeyRole.HYPERVISOR, _CONSOLES),
    "telemetry": LinkRule(KeyRole.HYPERVISOR, _CONSOLES - {KeyRole.CHAOS}),
    "device": LinkRule(KeyRole.LPAR, frozenset((KeyRole.CLIENT,))),
    "paste": LinkRule(KeyRole.NX, frozenset((KeyRole.CLIENT, KeyRole.NX))),
}


def may_dial(dialler: Principal, link: str, listener: Principal) -> bool:
    """Whether a key of `dialler` is for this link of `listener`.

    A client's is for its own partition's device, and an NX unit's for its own paste link, to see whether it is well.
    """
    rule = LINK_RULES[link]
    if dialler.role not in rule.dial or listener.role is not rule.listens:
        return False
    is_own = link == "device" or (link == "paste" and dialler.role is KeyRole.NX)
    return not is_own or dialler.name == listener.name


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in Z85. Its repr keeps the secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What key files say."""

    own: Mapping[Principal, KeyPair]
    public: Mapping[Principal, tuple[str, ...]]

    def keyring(self, owner: Principal) -> Keyring:
        """The keys for a process that is `owner`. Raises KeysError where its secret key is not there."""
        pair = self.own.get(owner)
        if pair is None:
            there = ", ".join(map(str, sorted(self.own))) or "none"
            raise KeysError(f"expected a secret key of {owner}, there are those of: {there}")
        return Keyring(owner, pair, self.public)

    def slot_keyring(self, template: str) -> Keyring:
        """The keys for a process that claims a slot: the enrolment key is that of its partition, whichever it gets.

        Raises KeysError where its secret is not there.
        """
        enrol = Principal(KeyRole.ENROL)
        return Keyring(Principal(KeyRole.LPAR, template), self.keyring(enrol).pair, self.public, enrol)

    def only(self, *roles: KeyRole) -> Keyring:
        """The keys for the one owner with a role of these. Raises KeysError where there is none, or more than one."""
        owners = sorted(owner for owner in self.own if owner.role in roles)
        if len(owners) != 1:
            wanted = " or ".join(roles)
            there = ", ".join(map(str, owners or sorted(self.own))) or "none"
            raise KeysError(
                f"expected the secret key of exactly one {wanted}, there are: {there}; `vasbus keys export` makes a "
                "file with one"
            )
        return self.keyring(owners[0])


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one process: its own pair, and the public keys of those it may talk with.

    `lender`: whose pair it is, where that is not `owner`.
    """

    owner: Principal
    pair: KeyPair
    public: Mapping[Principal, tuple[str, ...]]
    lender: Principal | None = None
    _owners: Mapping[str, Principal] = field(init=False, repr=False, compare=False)
    _decided: dict[tuple[str, str], Principal] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        owners = {key: owner for owner, known in self.public.items() for key in known}
        object.__setattr__(self, "_owners", owners)

    @property
    def key_owner(self) -> Principal:
        """Whose key the pair is by the key file."""
        return self.lender or self.owner

    def server_keys(self, link: str, listener: str) -> tuple[str, ...]:
        """The public keys of who is to listen at the other end; `listener` names the NX unit of a paste link.

        Several: it has one of them, while they are being changed. A partition without a key of its own is a slot: it
        has the enrolment key. Raises KeysError where there is none, or this key is not for that link.
        """
        role = LINK_RULES[link].listens
        name = {KeyRole.NX: listener, KeyRole.LPAR: self.owner.name}.get(role, "")
        server = Principal(role, name)
        if not may_dial(self.owner, link, server):
            raise KeysError(f"the key of {self.key_owner} is not for the {link} link, which is for {_diallers(link)}")
        known = self.public.get(server)
        if not known and role is KeyRole.LPAR:
            known = self.public.get(Principal(KeyRole.ENROL))
        if not known:
            raise KeysError(f"the key file of {self.key_owner} has no public key of {server}: export it again")
        return known

    def owner_of(self, public_key: str) -> Principal | None:
        """Whose key this is; None where nobody's here."""
        return self._owners.get(public_key)

    def authorise(self, link: str, public_key: str) -> Principal | None:
        """Who may come in at the link that this process listens on, with that key. None: nobody.

        It is asked for each message, so that what was decided about a known key is kept.
        """
        decided = self._decided.get((link, public_key))
        if decided is not None:
            return decided
        dialler = self.owner_of(public_key)
        if dialler is None or not may_dial(dialler, link, self.owner):
            return None
        self._decided[link, public_key] = dialler
        return dialler


def _diallers(link: str) -> str:
    return ", ".join(sorted(LINK_RULES[link].dial))


def check_claim(sender: Principal, envelope: Envelope) -> None:
    """Hold a message against the owner of its connection's key: only HELLO claims anything.

    The name of a client or of a console is free: its key says which partition's, or that it is a console. So is that
    of a template, whose slots are for the enrolment key alone. Raises WireError where role or name are somebody else's.
    """
    body = envelope.body
    if not isinstance(body, Hello):
        return
    own_name = sender.name if sender.role in (KeyRole.NX, KeyRole.LPAR) else body.name
    if (body.role, body.name) == (sender.hello_role, own_name):
        return
    expected = f"{sender.hello_role} {sender.name}".strip() + ", by the key of this connection"
    if sender.role is KeyRole.ENROL:
        expected = "the role slot: the enrolment key claims a free slot, a named partition its own key (lpar:NAME)"
    raise WireError(RefusalCode.KEY, expected, f"{body.role} {body.name!r}", envelope.epoch, envelope.number)


def principals_of(system: SystemSettings) -> list[Principal]:
    """Everybody who has a key in a system. All slots share the enrolment key, and their clients one by the template."""
    templates = [] if system.slots is None else [system.slots.name]
    return [
        Principal(KeyRole.HYPERVISOR),
        *(Principal(KeyRole.NX, chip.unit) for chip in system.chip),
        *(Principal(KeyRole.LPAR, lpar.name) for lpar in system.lpar),
        *(Principal(KeyRole.CLIENT, name) for name in [*(lpar.name for lpar in system.lpar), *templates]),
        *(Principal(role) for role in (KeyRole.ENROL, KeyRole.HMC, KeyRole.OBSERVER, KeyRole.CHAOS)),
    ]


def acquaintances(owner: Principal, everybody: Iterable[Principal]) -> Iterator[Principal]:
    """Those whose public keys `owner` needs: whom it dials and who dials it.

    Clients of a partition that has no key are those of slots: who serves one has the enrolment key.
    """
    known = dict.fromkeys(everybody)
    for other in known:
        pair = {owner.role: owner, other.role: other}
        client = pair.get(KeyRole.CLIENT) if KeyRole.ENROL in pair else None
        of_slot = client is not None and Principal(KeyRole.LPAR, client.name) not in known
        if of_slot or any(may_dial(owner, link, other) or may_dial(other, link, owner) for link in LINK_RULES):
            yield other


def parse_keys(text: str, source: str) -> KeyFile:
    """Read a key file's text. Raises KeysError with `source` and the line; a secret is never in its text."""
    own: dict[Principal, KeyPair] = {}
    public: dict[Principal, tuple[str, ...]] = {}
    owners: dict[str, Principal] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            kind, owner, keys = _parse_line(words)
        except KeysError as error:
            raise KeysError(f"{source}, line {number}: {error}") from None
        if owners.setdefault(keys[0], owner) != owner:
            raise KeysError(f"{source}, line {number}: this key of {owner} is that of {owners[keys[0]]} already")
        if kind == "own" and owner in own:
            raise KeysError(f"{source}, line {number}: a second secret key of {owner}; expected one")
        if kind == "own":
            own[owner] = KeyPair(keys[0], keys[1])
        elif keys[0] not in public.get(owner, ()):
            public[owner] = (*public.get(owner, ()), keys[0])
    return KeyFile(own, public)


def _parse_line(words: list[str]) -> tuple[str, Principal, list[str]]:
    counts = {"own": 4, "public": 3}
    if len(words) != counts.get(words[0]):
        raise KeysError("expected `own PRINCIPAL PUBLIC SECRET` or `public PRINCIPAL PUBLIC`")
    for key in words[2:]:
        if not is_key(key):
            raise KeysError(f"expected keys of {KEY_CHARACTERS} Z85 characters, came one of {len(key)} that is none")
    return words[0], Principal.parse(words[1]), words[2:]


def own_line(owner: Principal, pair: KeyPair) -> str:
    """The line of a secret key."""
    return f"own {owner} {pair.public} {pair.secret}\n"


def public_lines(public: Mapping[Principal, tuple[str, ...]], owners: Iterable[Principal]) -> str:
    """The lines of the public keys of `owners`."""
    return "".join(f"public {owner} {key}\n" for owner in owners for key in public.get(owner, ()))
