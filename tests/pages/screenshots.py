"""Takes the pictures of the pages for the README, of the built-in model's real answers: `make screenshots`.

`docs/page.png` is the Gradio page, `docs/streamlit.png` the Streamlit page, `docs/phone.png` the Gradio one in Chinese,
dark, on a phone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from built_in.language import Code
from omnilmm.engine.loading import load_engine
from tests.browser import launch_arguments
from tests.pages import visitor
from tests.streamlit_pages import person

DOCS = Path(__file__).parents[2] / "docs"
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en"}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "device_scale_factor": 2,
    "color_scheme": "dark",
    "locale": "zh-CN",
}
FOLLOW_UPS: dict[Code, str] = {"en": "What colour are the stars?", "zh": "星形是什么颜色？"}


def take(browser: Browser, kind: Any, address: str, name: str, code: Code = "en", **looks: Any) -> None:
    """A picture of a page after a sample was answered and a follow-up asked.

    Args:
        browser: that opens it.
        kind: `Visitor` of the Gradio page, `Person` of the Streamlit page.
        address: of the page.
        name: of the file.
        code: the language that is spoken.
        looks: of the browser's window.
    """
    context = browser.new_context(**looks)
    someone = kind.arrives(context, address)
    sample = visitor.SAMPLES["stars"]
    someone.ask(sample.asked_in(code), sample.picture)
    someone.until(lambda: len(someone.notes()) == 1 and someone.is_idle)
    someone.ask(FOLLOW_UPS[code])
    someone.until(lambda: len(someone.notes()) == 2 and someone.is_idle)
    someone.page.mouse.move(0, 0)
    someone.page.wait_for_timeout(1500)  # until nothing slides or fades any more
    someone.page.screenshot(path=DOCS / name)
    context.close()
    print(DOCS / name)


def main() -> None:
    arguments = launch_arguments()
    engine = load_engine()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**arguments)
        with visitor.serve(engine) as site:
            take(browser, visitor.Visitor, site.address, "page.png", **DESKTOP)
            take(browser, visitor.Visitor, site.address, "phone.png", "zh", **PHONE)
        with person.serve(engine) as streamlit:
            take(browser, person.Person, streamlit.address, "streamlit.png", **DESKTOP)
        browser.close()


if __name__ == "__main__":
    main()
