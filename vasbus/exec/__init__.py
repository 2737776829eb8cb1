"""Commands that people know from the real machine: the partition's own, and those of the management console."""
