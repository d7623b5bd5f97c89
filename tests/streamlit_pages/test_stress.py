"""A short form of `make stress` on the Streamlit page: a few unruly people, nothing of whom reaches another."""

from __future__ import annotations

from tests.stress import model, run
from tests.stress_pages import streamlit_page


def test_nothing_of_one_reaches_another() -> None:
    with model() as (provider, offer), streamlit_page(provider, offer) as page:
        figures = run(page, users=6, seconds=8, unruly=True)
    assert figures.wrong == [] and figures.answers >= 6 and figures.stops
