"""Takes the README's picture of the page: `python -m tests.pages.screenshots` writes `docs/page.png`."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

from omnilmm.engine.loading import load_engine
from tests.browser import launch_arguments
from tests.pages.visitor import Visitor, serve

FOLDER = Path(__file__).parents[2] / "docs"


def main() -> None:
    """A sample is answered, and a follow-up about the same picture."""
    with serve(load_engine()) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_arguments())
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        visitor = Visitor.arrives(context, site.address)
        visitor.sample("picture")
        visitor.answered(1)
        visitor.ask("Which shape is red?")
        visitor.answered(2)
        visitor.page.wait_for_timeout(500)
        visitor.page.screenshot(path=FOLDER / "page.png")
        browser.close()


if __name__ == "__main__":
    main()
