"""A short form of `make stress` on the Gradio page: a few unruly people, nothing of whom reaches another."""

from __future__ import annotations

from tests.stress import model, run
from tests.stress_pages import gradio_page


def test_nothing_of_one_reaches_another() -> None:
    with model() as (provider, offer), gradio_page(provider, offer) as page:
        figures = run(page, users=6, seconds=8, unruly=True)
    assert figures.wrong == [] and figures.answers >= 6 and figures.stops
