"""What the processes of vasbus know of each other: codes, messages, wire format, sessions and the node loop."""
