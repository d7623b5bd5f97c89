"""Messages -> token ids with slots for pictures; one module per template."""
