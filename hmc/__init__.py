"""The management console: asks the hypervisor for changes and watches what happens."""
