"""The model that waits for the test."""

from tests.pages.conftest import pace

__all__ = ["pace"]
