"""Takes the picture of the page for the README: `python -m tests.pages.screenshots` writes `docs/page.png`.

With a folder as argument it also takes the page on a phone, in the dark and empty, to look at after changing its style.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from omnilmm.engine.loading import load_engine
from tests.browser import launch_arguments
from tests.pages.visitor import Visitor, serve

README_PICTURE = Path(__file__).parents[2] / "docs" / "page.png"
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "device_scale_factor": 2}


def take(browser: Browser, address: str, path: Path, *, sample: str | None, follow_up: str = "", **looks: Any) -> None:
    """One picture of the page, after a sample was answered and a follow-up asked."""
    context = browser.new_context(**looks)
    visitor = Visitor.arrives(context, address)
    if sample:
        visitor.sample(sample)
        visitor.answered()
    if follow_up:
        visitor.ask(follow_up)
        visitor.answered(2)
    visitor.page.mouse.move(0, 0)
    visitor.page.wait_for_timeout(800)  # until nothing slides or fades any more
    path.parent.mkdir(parents=True, exist_ok=True)
    visitor.page.screenshot(path=path)
    context.close()
    print(path)


def main() -> None:
    arguments = launch_arguments()
    with serve(load_engine()) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**arguments)
        asked = {"sample": "stars", "follow_up": "What colour are the stars?"}
        take(browser, site.address, README_PICTURE, **asked, **DESKTOP)
        for folder in map(Path, sys.argv[1:]):
            take(browser, site.address, folder / "phone.png", **asked, **PHONE)
            take(browser, site.address, folder / "dark.png", **asked, **DESKTOP, color_scheme="dark")
            take(browser, site.address, folder / "empty.png", sample=None, **DESKTOP)
        browser.close()


if __name__ == "__main__":
    main()
