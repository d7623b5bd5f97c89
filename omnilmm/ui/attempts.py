"""Rate limit for logins: after several wrong passwords a name has to wait, longer each time, at that client address.

The same name can still sign in from another address. Behind a proxy on this machine the address is the visitor's, as
reported by the proxy; behind a proxy elsewhere it is the proxy's (uvicorn's FORWARDED_ALLOW_IPS names trusted proxies).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from omnilmm.ui.texts import texts_for

FREE = 5  # wrong passwords before the first wait
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 900.0
MOST_KNOWN = 10_000

Key = tuple[str, str]


class Attempts:
    """Counts wrong passwords by address and name, on the event loop alone: it has no lock.

    Args:
        now: returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._wrong: OrderedDict[Key, tuple[int, float]] = OrderedDict()  # how many, and when the wait ends

    def wait_s(self, address: str, name: str) -> float:
        """Return how long to wait before the next password is checked; 0 for no wait."""
        _, until = self._wrong.get((address, name), (0, 0.0))
        return max(0.0, until - self._now())

    def failed(self, address: str, name: str) -> None:
        """Record a wrong password."""
        count = self._wrong.pop((address, name), (0, 0.0))[0] + 1
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(count - FREE, 30)) if count >= FREE else 0.0
        self._wrong[address, name] = (count, self._now() + wait)
        while len(self._wrong) > MOST_KNOWN:
            self._wrong.popitem(last=False)

    def succeeded(self, address: str, name: str) -> None:
        """Record a correct password, which resets the count."""
        self._wrong.pop((address, name), None)


def wait_line(wait_s: float, languages: str | None) -> str:
    """Return the line for a visitor who has to wait, in the language of the Accept-Language header."""
    return texts_for(languages).locked_out.format(seconds=int(wait_s) + 1)
