"""Running a system: the local launcher, the sample system, the container files."""
