"""Render messages to token ids with image placeholders; one module per chat template."""
