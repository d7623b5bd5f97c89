"""Access to the API: a key is required wherever others can reach it."""

from __future__ import annotations

from omnilmm.errors import OptionsError
from omnilmm.network import is_loopback

KEY = "OMNILMM_API_KEY"


def check_exposed(host: str, key: str | None, *, is_shared: bool = False, has_accounts: bool = False) -> None:
    """Refuse to serve the API without a key if other machines can reach it or the page requires a login.

    Args:
        host: address to listen on.
        key: key from the environment.
        is_shared: whether there is a public link.
        has_accounts: whether the page beside it requires a login, which does not protect the routes of the API.

    Raises:
        OptionsError: A key is required but not set.
    """
    if key:
        return
    if has_accounts:
        raise OptionsError("key_needed_beside_login", variable=KEY)
    if is_shared or not is_loopback(host):
        raise OptionsError("key_needed_for_others", variable=KEY, host="--share" if is_shared else host)
