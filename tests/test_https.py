"""Both pages and the API over HTTPS; the certificate and its key are of the tests alone."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from omnilmm.errors import OptionsError
from omnilmm.ui.flag_values import check_certificate
from tests.streamlit_pages.test_flags import served
from web_demo import parser

CERTIFICATE, KEY = (Path(__file__).parent / "tls" / name for name in ("cert.pem", "key.pem"))


@pytest.mark.parametrize(
    ("program", "contents"),
    [
        (["web_demo.py", "--api"], {"/": "<html", "/v1/models": "built-in"}),
        (["web_demo_streamlit.py"], {"/": "<html"}),
        (["-m", "omnilmm.api"], {"/v1/models": "built-in"}),
    ],
)
def test_it_is_served_over_https(program: list[str], contents: dict[str, str]) -> None:
    files = ("--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", str(KEY))
    with served(*program, "--port", "0", *files) as address:
        assert address.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(CERTIFICATE))
        for path, content in contents.items():
            answer = httpx.get(address.rstrip("/") + path, verify=trusted, follow_redirects=True, timeout=120)
            assert answer.status_code == 200 and content in answer.text


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["--ssl-certfile", str(CERTIFICATE)], "belong together"),
        (["--ssl-keyfile", str(KEY)], "belong together"),
        (["--ssl-certfile", "no.pem", "--ssl-keyfile", str(KEY)], "no file no.pem"),
        (["--ssl-certfile", str(KEY), "--ssl-keyfile", __file__], "no certificate with its private key"),
        (["--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", str(CERTIFICATE)], "no certificate with its private"),
    ],
)
def test_half_a_certificate_is_refused(files: list[str], told: str) -> None:
    flags = parser().parse_args(files)
    with pytest.raises(OptionsError, match=told):
        check_certificate(flags.ssl_certfile, flags.ssl_keyfile)
