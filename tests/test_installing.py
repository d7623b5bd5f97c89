"""How the tests' libraries are installed: uv looks where pip would."""

from __future__ import annotations

from tests.installing import configured, uv_options

LISTED = r"""
:env:.find-links='/wheels'
global.cert='/etc/ssl/a b.crt'
global.extra-index-url='file:///one/simple https://two.example/simple'
global.find-links='/elsewhere'
global.timeout='180'
install.constraint='/etc/constraints.txt'
"""


def test_uv_looks_where_pip_does() -> None:
    pip = configured(LISTED)
    assert pip["cert"] == "/etc/ssl/a b.crt"
    assert uv_options(pip) == [
        *("--index", "file:///one/simple", "--index", "https://two.example/simple"),
        *("--find-links", "/wheels"),  # of the environment, before that of the file
        *("--constraint", "/etc/constraints.txt"),
    ]
    assert uv_options(configured("")) == []
