"""Fetching through a proxy of the environment, and what is said of one that does not work."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from omnilmm.engine.fetching import download, fetch
from omnilmm.engine.fetching.errors import HubError
from omnilmm.errors import OptionsError
from omnilmm.network import prepare_proxies, proxy_for
from tests.engine.local_hub import LocalHub, serving
from tests.socks_proxy import socks_proxy

# httpcore leaves the socket of a greeting that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

FILES = {"config.json": b'{"model_type": "minicpmv"}', "model.safetensors": bytes(range(256)) * 3000}


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy, a cache of its own, and a client that is set up anew."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for spelt in (name, name.lower()):
            monkeypatch.setenv(spelt, "")  # so that it is as before afterwards, whatever is set meanwhile
            monkeypatch.delenv(spelt)
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()
    gc.collect()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with serving(LocalHub(FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def fetched() -> dict[str, bytes]:
    folder = fetch("owner/model", title="A Model")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "http_proxy"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
def test_a_download_goes_through_a_socks_proxy(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    with socks_proxy() as proxy:
        monkeypatch.setenv(variable, proxy.address.replace("socks5", scheme))
        assert fetched() == FILES
    assert {("127.0.0.1", hub.port), ("localhost", hub.port)} <= set(proxy.reached)  # the hub, and its storage


def test_a_proxy_may_want_a_password_and_no_proxy_goes_around_it(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socks_proxy(login=("me", "s3cret")) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.address.replace("s3cret", "wrong"))
        with pytest.raises(
            HubError, match=rf"through the proxy socks5://127.0.0.1:{proxy.port} \(ALL_PROXY\)"
        ) as raised:
            fetched()
        assert "wrong" not in str(raised.value) and not proxy.reached
        huggingface_hub.close_session()
        monkeypatch.setenv("ALL_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1,localhost")
        assert proxy_for(hub.endpoint) is None
        assert fetched() == FILES
        assert not proxy.reached


def _answer_otherwise(server: socket.socket) -> None:
    """As something that is neither proxy nor hub."""
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            connection.sendall(b"HELLO\r\n")
            connection.close()


@pytest.mark.parametrize("scheme", ["socks5", "http"])
@pytest.mark.parametrize("listens", [True, False], ids=["no proxy", "nobody"])
def test_a_proxy_that_does_not_work_is_named(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, scheme: str, listens: bool
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # so that the port is nobody else's meanwhile
        port = server.getsockname()[1]
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:s3cret@127.0.0.1:{port}")
        if listens:
            server.listen()
            threading.Thread(target=_answer_otherwise, args=(server,), daemon=True).start()
        with pytest.raises(HubError) as raised:
            fetched()
    said = str(raised.value)
    assert f"through the proxy {scheme}://127.0.0.1:{port} (ALL_PROXY): " in said and "and the proxy, or" in said
    assert "s3cret" not in said and "\n" not in said
    assert ": what answers there is no hub" not in said


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("ALL_PROXY", "socks4://me:s3cret@localhost:1", "ALL_PROXY=socks4://localhost:1"),
        ("https_proxy", "http://[::1", "https_proxy=http://[::1"),
        ("HTTP_PROXY", "http://localhost:port", "HTTP_PROXY=http://localhost:port"),
        ("NO_PROXY", "fe80::/10", "HTTP_PROXY=http://localhost:1, NO_PROXY=fe80::/10"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, shown: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://localhost:1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(OptionsError, match="proxy settings of this terminal cannot be used") as raised:
        prepare_proxies()
    assert shown in str(raised.value) and "s3cret" not in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(HubError, match=r"A Model cannot be fetched\. The proxy settings"):
        fetched()


def test_a_copy_on_this_disk_does_where_the_proxy_does_not_work(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetched() == FILES
    huggingface_hub.close_session()
    monkeypatch.setenv("ALL_PROXY", "socks4://localhost:1")
    assert fetched() == FILES
