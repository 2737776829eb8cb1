"""vasbus: PowerVM accelerator credits on a message bus."""
