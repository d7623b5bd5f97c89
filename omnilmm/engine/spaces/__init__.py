"""What a Hugging Face Space changes: a model that does not fit, and a GPU lent per answer."""
