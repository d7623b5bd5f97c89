"""Memory estimates, and the placement of a model's parts on devices."""
