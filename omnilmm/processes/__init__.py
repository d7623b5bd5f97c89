"""Subprocesses for what others made, pictures and chat templates: each request has bounded memory and time."""
