"""What fits into which memory, and which part of a model goes where."""
