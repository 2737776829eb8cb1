"""The hypervisor: hands out VAS credits by processor entitlement and owns the table of windows."""
