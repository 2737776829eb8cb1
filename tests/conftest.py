"""What holds for every test.

No explain phase in property tests: it traces each line after a failure, which then looks like a timeout. And Ctrl-C is
heard, also where the tests run as a shell's background job, which ignores it: some tests press it.
"""

from __future__ import annotations

import signal

from hypothesis import Phase, settings

WITHOUT_EXPLAIN = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)

settings.register_profile("without_explain", settings(), phases=WITHOUT_EXPLAIN)
settings.load_profile("without_explain")

signal.signal(signal.SIGINT, signal.default_int_handler)
