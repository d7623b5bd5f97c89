"""The Chromium that the page tests drive: finds one, and as a program installs one where there is none.

    python -m tests.browser

Looks on PATH, then for Playwright's own. As root on Debian and its relatives the distribution's package is installed,
elsewhere Playwright's. If all fails it says so and exits with 1: the page tests are never skipped. The tests of spoken
answers need espeak-ng, which is installed in the same way there.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from tests.waiting import SLOW

if TYPE_CHECKING:  # as a program it runs before there is a Playwright
    from playwright.sync_api import Browser, BrowserContext, Page

VOICE = "espeak-ng"  # speaks the answers of the live view
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
# No sandbox since CI runs as root; the rest keeps the browser from talking to anybody but the page.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A camera: a green picture with a moving dot.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def executable() -> str | None:
    """The path of a Chromium that starts, or None."""
    on_path = next((path for name in NAMES if (path := shutil.which(name)) and _starts(path)), None)
    return on_path or _playwrights_own()


def launch_arguments() -> dict[str, Any]:
    """Arguments for Playwright's `chromium.launch`.

    Raises:
        RuntimeError: There is no Chromium.
    """
    path = executable()
    if path is None:
        raise RuntimeError("No Chromium found for the page tests. Run: python -m tests.browser")
    return {"executable_path": path, "headless": True, "args": ARGUMENTS}


class OneBrowser:
    """The browser of all journeys that follow each other in one process; each journey has a context of its own.

    Playwright cannot be started twice in a process, and while its event loop is there, nothing else can run one: what
    needs no browser closes it first.
    """

    def __init__(self) -> None:
        self._browser: Browser | None = None
        self._running = ExitStack()

    def get(self) -> Browser:
        """The running browser; starts one where there is none."""
        if self._browser is None or not self._browser.is_connected():
            self.close()
            from playwright.sync_api import sync_playwright

            arguments = launch_arguments()
            playwright = self._running.enter_context(sync_playwright())
            self._browser = playwright.chromium.launch(**arguments)
            self._running.callback(self._browser.close)
        return self._browser

    def close(self) -> None:
        """End it, and Playwright with it."""
        self._browser = None
        self._running.close()


class Profiles:
    """Browser contexts that one journey after another uses, each as a new person in a used browser.

    What a page is built from stays cached and compiled, so that opening it costs little more than half; cookies and
    storage go. A tab that stays open keeps the process that has compiled it.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[str, str], list[BrowserContext]] = {}

    @contextmanager
    def lend(self, browser: Browser, address: str, **looks: Any) -> Iterator[BrowserContext]:
        """A context for the server at an address, without anything of the person before; its pages are closed later."""
        free = self._free.setdefault((address, json.dumps(looks, sort_keys=True)), [])
        free[:] = filter(_is_open, free)
        context = free.pop() if free else _used(browser.new_context(**looks), address)
        context.clear_cookies()
        storage = {"origin": address.rstrip("/"), "storageTypes": "local_storage,indexeddb,cache_storage"}
        context.new_cdp_session(context.pages[0]).send("Storage.clearDataForOrigin", storage)
        try:
            yield context
        finally:
            for page in context.pages[1:]:
                page.close()
        free.append(context)

    def close(self) -> None:
        """Close them all."""
        for context in filter(_is_open, itertools.chain(*self._free.values())):
            context.close()


def _is_open(context: BrowserContext) -> bool:
    """Whether its browser still runs; a test that needs none has it closed."""
    return context.browser is not None and context.browser.is_connected()


def _used(context: BrowserContext, address: str) -> BrowserContext:
    context.new_page().goto(urljoin(address, "/favicon.ico"))
    return context


def opened(context: BrowserContext) -> Page:
    """A new page; with `SLOW` its processor has a quarter of its speed."""
    page = context.new_page()
    if os.environ.get(SLOW):
        context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    return page


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def _starts(path: str) -> bool:
    """Some distributions ship a stand-in that only says where to get the real one."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _ways_to_install() -> Iterator[list[list[str]]]:
    playwright = [sys.executable, "-m", "playwright", "install"]
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root and Path("/etc/debian_version").exists():
        yield [["apt-get", "update"], ["apt-get", "install", "-y", "chromium"]]
        yield [[*playwright, "--with-deps", "chromium"]]
    else:
        yield [[*playwright, "chromium"]]


def _install_voice() -> None:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if shutil.which(VOICE) is None and is_root and Path("/etc/debian_version").exists():
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", VOICE]):
            subprocess.run(command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def main() -> int:
    """Make sure that there is a Chromium, and a voice."""
    _install_voice()
    if path := executable():
        print(f"Chromium for the page tests: {path}")
        return 0
    tried = []
    for commands in _ways_to_install():
        for command in commands:
            tried.append(" ".join(command))
            print(f"No Chromium here yet; running: {tried[-1]}", flush=True)
            try:
                done = subprocess.run(command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
            except OSError as error:
                print(error)
                break
            if done.returncode != 0:
                break
        if path := executable():
            print(f"Chromium for the page tests: {path}")
            return 0
    print(
        "The page tests need a Chromium, and none could be installed. Install Chromium or Chrome yourself, put it on "
        f"PATH, and run this again. Tried: {'; '.join(tried)}.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
