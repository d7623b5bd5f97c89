"""How good is a model: its answers to a benchmark's or anybody's own questions, scored by the published metrics."""
