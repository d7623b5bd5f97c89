"""Who may use the API: where others can reach it, a key is asked for."""

from __future__ import annotations

import ipaddress

from omnilmm.errors import OptionsError

KEY = "OMNILMM_API_KEY"


def check_exposed(host: str, key: str | None, *, is_shared: bool = False, has_accounts: bool = False) -> None:
    """Refuse to serve others, or people who sign in on the page, without a key.

    Args:
        host: that is listened on.
        key: of the environment.
        is_shared: whether there is a public link.
        has_accounts: whether the page beside it asks for a login; the routes of the API are not behind that.

    Raises:
        OptionsError: There has to be a key.
    """
    if key:
        return
    if has_accounts:
        raise OptionsError("key_needed_beside_login", variable=KEY)
    if is_shared or not _is_loopback(host):
        raise OptionsError("key_needed_for_others", variable=KEY, host="--share" if is_shared else host)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
