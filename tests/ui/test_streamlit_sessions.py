"""What the Streamlit page's scripts say reaches the event loop, in order, and without waking it for each word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from omnilmm.ui.streamlit_page.sessions import Callbacks, Uploads
from tests.guarded import guarded

Woken = list[Callable[[], None]]


def test_the_loop_is_woken_once_for_all_that_comes_before_it_runs() -> None:
    woken: Woken = []
    said: list[int] = []
    callbacks = Callbacks(woken.append)
    for number in range(3):
        callbacks.add(lambda number=number: said.append(number))  # type: ignore[misc]
    assert len(woken) == 1 and said == []
    woken.pop()()
    assert said == [0, 1, 2] and woken == []
    callbacks.add(lambda: callbacks.add(lambda: said.append(3)))  # while it runs
    woken.pop(0)()
    assert said == [0, 1, 2, 3]
    for run in woken:
        run()
    assert said == [0, 1, 2, 3], "nothing is left for it"


def test_one_that_fails_keeps_no_other_from_being_run() -> None:
    woken: Woken = []
    said: list[str] = []
    callbacks = Callbacks(woken.append)
    callbacks.add(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    callbacks.add(lambda: said.append("after"))
    with pytest.raises(ZeroDivisionError):
        woken.pop()()
    woken.pop()()
    assert said == ["after"]


def test_uploads_are_counted_while_none_comes_or_goes() -> None:
    uploads = Uploads("/upload")
    files = {"a": UploadedFileRec("a", "a.png", "image/png", b"123")}
    uploads.file_storage["session"], uses = guarded(files, uploads._lock.locked)
    assert uploads.held_bytes("session") == 3 and uses == []
