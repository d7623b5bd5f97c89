"""Benchmark the response time of both pages in a browser: `make bench-page`.

Measures the time from the click on a sample until the first word of the answer is in the page of a real browser, with
the built-in model: for the first click on a fresh server, and the median of later ones, each in a new browser context.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from datetime import date

from playwright.sync_api import Browser, sync_playwright

from benchmarks.__main__ import ROOT, machine
from tests.browser import launch_arguments

PEOPLE = 9
PAGES = {
    "web_demo.py": (".sample", "#chat .bot.message:not(:has(.note))"),
    "web_demo_streamlit.py": ("[class*=st-key-ask-] button", ".st-key-message-1 [data-testid=stMarkdown]"),
}
# Resolves to the milliseconds until the answer has text.
CLICK = """([sample, answer]) => new Promise(resolve => {
  const began = performance.now()
  const look = () => {
    const said = document.querySelector(answer)
    if (said && said.innerText.trim()) resolve(performance.now() - began)
    else requestAnimationFrame(look)
  }
  document.querySelector(sample).click()
  look()
})"""


def main() -> None:
    """Measure and print."""
    print(f"Command: `python -m benchmarks.page` · {date.today()} · {machine()}\n")
    print("| from the click on a sample to the first word | first click | median of later ones |\n|---|---|---|")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_arguments())
        for program, (sample, answer) in PAGES.items():
            first, *later = answered_ms(browser, program, sample, answer)
            print(f"| {program} | {first:.0f} ms | {statistics.median(later):.0f} ms |", flush=True)
        browser.close()


def answered_ms(browser: Browser, program: str, sample: str, answer: str) -> list[float]:
    """Return the milliseconds that each user waited.

    Args:
        browser: browser to use.
        program: script of the page.
        sample: CSS selector of the sample.
        answer: CSS selector of the answer.
    """
    found = []
    command = [sys.executable, "-u", program, "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            lines = iter(server.stdout or ())
            address = next(match[0] for line in lines if (match := re.search(r"http://[\w.:]+", line)))
            next(line for line in lines if " on cpu" in line or " on cuda" in line or " on mps" in line)
            for _ in range(PEOPLE):
                context = browser.new_context()
                page = context.new_page()
                page.goto(address.rstrip("."))
                page.locator(sample).first.wait_for()
                page.wait_for_timeout(2000)  # let the page settle
                found.append(page.evaluate(CLICK, [sample, answer]))
                context.close()
        finally:
            server.terminate()
    return found


if __name__ == "__main__":
    main()
