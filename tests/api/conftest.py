"""The built-in model, and how it waits for the test."""

from tests.pages.conftest import engine, pace

__all__ = ["engine", "pace"]
