"""Benchmarks; see RESULTS.md."""
