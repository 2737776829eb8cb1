"""The tour: a cluster at work, every claim checked. `vasbus demo` runs it."""
