"""How both pages are looked at: windows, an answer with all kinds of Markdown, and an accessibility checker."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True},
    "dark phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "color_scheme": "dark"},
    "Chinese": {"locale": "zh-CN"},
}
RICH = """# A heading

| shape | count |
|---|---|
| star | 2 |

```python
# counts the stars
def count(stars: list[str]) -> int:
    return len(stars) + 2 if True else "two stars"
```

Inline \\(x^2\\) and a formula: $$\\frac{a}{b}$$

A <ref>star</ref><box>100 100 300 300</box>.

<div style="position:fixed;inset:0" id=password><form action=/login></form></div> ![x](/logout) [y](data:text/html,z)
"""


# Animations that come to an end: while a panel unfolds, its colours are others.
MOVING = """() => document.getAnimations().some((one) =>
    one.playState === "running" && one.effect?.getComputedTiming().iterations !== Infinity)"""


def serious(page: Page) -> list[str]:
    """What an accessibility checker finds serious or worse, with the places; once nothing moves any more."""
    page.wait_for_function(f"() => !({MOVING})()")
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:160] for node in rule['nodes']][:4]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
