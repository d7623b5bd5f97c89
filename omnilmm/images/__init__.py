"""Pictures: safe decoding, slicing, pixels."""
