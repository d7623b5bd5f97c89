"""What the product costs, measured; see RESULTS.md."""
