"""The error table of the bus: why a message, a session or a connection was refused.

`definite` says that the request was not carried out and will not be; an indefinite refusal says nothing about
what happened to it: repeat it with the same number. One that names a time to ask again (`after_ms`) is never definite.
"""

from __future__ import annotations

from enum import StrEnum


class RefusalCode(StrEnum):
    """Names of the refusals: each member carries whether it is definite, what it means and what to do."""

    definite: bool
    meaning: str
    advice: str

    def __new__(cls, value: str, definite: bool, meaning: str, advice: str) -> RefusalCode:
        member = str.__new__(cls, value)
        member._value_ = value
        member.definite = definite
        member.meaning = meaning
        member.advice = advice
        return member

    GARBAGE = "garbage", True, "frame 0 is not a msgpack map with the envelope's keys", "see the wire document"
    VERSION = "version", True, "the envelope's version is not the one spoken here", "use matching releases"
    UNKNOWN_TYPE = "unknown_type", True, "this link has no such message in this direction", "see the message list"
    BODY = "body", True, "a field is missing, unknown, of the wrong type or out of range", "see the field named"
    FRAMES = "frames", True, "the message has too few or too many frames", "send the frames of its type"
    FRAME_SIZE = "frame_size", True, "a frame is longer than the link allows", "split the data"
    NO_SESSION = "no_session", True, "this connection has not said HELLO", "say HELLO first"
    EPOCH = "epoch", True, "the epoch is not this session's: an old incarnation's message", "start a new session"
    SESSION_DEAD = "session_dead", True, "the session has ended; what it held is gone", "start a new session"
    IN_USE = "in_use", False, "a live session has this name (H_IN_USE)", "wait for its lease or use another name"
    NAME_HELD = "name_held", True, "another live process has this name (H_IN_USE)", "end one of the two processes"
    UNKNOWN_NAME = "unknown_name", True, "the system has nobody of this name and role", "use a name it defines"
    KEY = "key", True, "the key of this connection is not for that role and name", "use the key made for them"
    OUTSTANDING = "outstanding", True, "more unanswered requests than the session allows", "wait for answers"
    STALE_NUMBER = "stale_number", True, "a request number below what was acknowledged", "use the next number"
    SESSIONS_FULL = "sessions_full", False, "the table of sessions is full", "close a session and try again"
    SLOTS_FULL = "slots_full", True, "every slot of the template is claimed", "wait for one, or raise slots.count"
    NO_PROCESSORS = (
        "no_processors",
        True,
        "the system has not the processors or QoS credits of one more slot",
        "take some from a partition",
    )
    RETRY = "retry", False, "not ready yet (recovering): nothing was done", "repeat with the same number"
    STALE_TOKEN = "stale_token", True, "the token is not this window's", "fault, and paste at the new address"
    DRAINING = "draining", False, "the process is shutting down", "try again when it is back"
    NO_ANSWER = "no_answer", False, "nobody answered before the deadline", "look whether the process is running"
