"""Time as the cores see it: whole microseconds of a monotonic clock, passed in with every call."""

MILLISECOND_US = 1_000
SECOND_US = 1_000_000


def earliest(*moments: int | None) -> int | None:
    """The first of some moments in microseconds; None stands for never."""
    return min((moment for moment in moments if moment is not None), default=None)
