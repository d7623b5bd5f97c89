"""The built-in model: synthetic pictures with true questions and answers, training, measured abilities."""
