"""Where a page is served, and an upload that fails."""

from __future__ import annotations

import socket

import pytest

from omnilmm.errors import ImageError
from omnilmm.ui.network import HOST, POLICY, find_port
from omnilmm.ui.upload import open_upload
from web_demo import checked_flags


def test_a_port_is_free_or_it_is_said_which_one_is_taken() -> None:
    assert find_port(HOST, None) is None
    assert (find_port(HOST, 0) or 0) > 0
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            find_port(HOST, port)
    assert find_port(HOST, port) == port, "the search itself leaves it free"


def test_any_free_port_is_looked_for_when_the_page_is_served_not_before() -> None:
    assert checked_flags(["--port", "0"]).port == 0, "another program could be given it meanwhile"


def test_no_picture_of_another_host_is_loaded() -> None:
    rules = dict(rule.strip().partition(" ")[::2] for rule in POLICY.split(";"))
    assert set(rules) == {"img-src", "media-src", "connect-src", "font-src"}
    assert all(source in ("'self'", "data:", "blob:") for sources in rules.values() for source in sources.split())


def test_an_upload_that_is_no_picture_is_said_with_its_name() -> None:
    with pytest.raises(ImageError, match=r"^notes\.png: This file is not a picture"):
        open_upload("notes.png", b"these are notes")
