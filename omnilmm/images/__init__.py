"""Picture input: safe decoding, slicing and preprocessing to pixels."""
