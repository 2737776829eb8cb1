"""Pages of `docs` that are printed from decorators on tests: what they share."""
