"""The script of a component is run for each draw of the page, but for no older one than the last."""

from __future__ import annotations

from playwright.sync_api import Browser

from omnilmm.ui.streamlit_page.component import _IN_ORDER_JS

RUN = """async (script) => {
  window.drawn = []
  const source = "function draw({ data, parentElement }) { drawn.push(data + parentElement) }" + script
  const { default: run } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })))
  const draw = (key, session, time) =>
    run({ parentElement: "!", data: { drawn: { key, session, time }, content: `${key} ${session}${time}` } })
  draw("state", "a", 1)
  draw("state", "a", 3)
  draw("state", "a", 2)  // late
  draw("copy", "a", 1)
  draw("state", "a", 3)
  draw("state", "b", 1)  // the server was started anew
  return drawn
}"""


def test_a_draw_is_not_undone_by_an_older_one(browser: Browser) -> None:
    with browser.new_page() as page:
        assert page.evaluate(RUN, _IN_ORDER_JS) == ["state a1!", "state a3!", "copy a1!", "state a3!", "state b1!"]
