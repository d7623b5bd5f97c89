"""Support for Hugging Face Spaces: the fallback to the built-in model, and ZeroGPU."""
