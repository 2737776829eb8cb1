"""No explain phase in property tests: it traces each line after a failure, which then looks like a timeout."""

from __future__ import annotations

from hypothesis import Phase, settings

WITHOUT_EXPLAIN = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)

settings.register_profile("without_explain", settings(), phases=WITHOUT_EXPLAIN)
settings.load_profile("without_explain")
