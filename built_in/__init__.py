"""The built-in model: synthetic pictures with questions and ground-truth answers, training and evaluation."""
