"""What holds for every test.

No explain phase in property tests: it traces each line after a failure, which then looks like a timeout. And Ctrl-C is
heard, also where the tests run as a shell's background job, which ignores it: some tests press it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from hypothesis import Phase, settings

from tests.printed.outcomes import FIGURE

WITHOUT_EXPLAIN = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)

settings.register_profile("without_explain", settings(), phases=WITHOUT_EXPLAIN)
settings.load_profile("without_explain")

signal.signal(signal.SIGINT, signal.default_int_handler)

Figure = Callable[[str, float, str], None]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """`figure(name, value, unit)` reports what a test measured: on its output, and on the page that shows the test."""

    def report(name: str, value: float, unit: str) -> None:
        text = f"{name}: {value:,.3g} {unit}" if abs(value) < 1000 else f"{name}: {value:,.0f} {unit}"
        print(text)
        record_property(FIGURE, text.strip())

    return report
