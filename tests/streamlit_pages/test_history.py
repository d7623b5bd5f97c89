"""Past chats on the Streamlit page; the script that keeps them is tried by itself in `tests/pages/test_history.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omnilmm.ui.session_store import SessionStore
from omnilmm.ui.streamlit_page import visitor as visitors
from tests.pages.history import keep_open_and_delete
from tests.pages.visitor import SAMPLES
from tests.streamlit_pages.person import Person, Site


def test_past_chats_are_kept_opened_and_deleted(
    site: Site, visit: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    def restart(_: Person) -> None:
        monkeypatch.setattr(visitors, "SESSION_STORE", SessionStore())
        visitors._VISITORS.clear()

    keep_open_and_delete(visit(), visit(), restart, SAMPLES["circle"], SAMPLES["stars"])
