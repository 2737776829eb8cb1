"""The NX unit of one chip: VAS window contexts, two receive FIFOs and the gzip engine behind them."""
