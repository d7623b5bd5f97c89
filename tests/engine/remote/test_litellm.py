"""LiteLLM's proxy in front of two real llama.cpp servers, one of which is killed in an answer.

LiteLLM needs other versions of some libraries than this program, and a minute to install: `make test-litellm` installs
it in an environment of its own and runs this; without that environment it is skipped.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Finished, TextDelta
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.dialects import PLAIN
from omnilmm.engine.servers import Servers
from omnilmm.errors import ServerError
from tests.engine.remote.llama_server import LlamaServer
from tests.engine.remote.tiny_gguf import write_tiny
from tests.waiting import wait_until

PROGRAM = Path(os.environ.get("OMNILMM_LITELLM", ROOT / ".venv" / "litellm" / "bin" / "litellm"))
pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="make test-litellm installs LiteLLM and runs this")
HELLO = Conversation().with_message("user", "Hello")
KEY = "sk-of-the-proxy"


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[LlamaServer]]:
    model = write_tiny(tmp_path / "slow.gguf", width=256, layers=16)
    servers = [LlamaServer(model), LlamaServer(model)]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def url(workers: list[LlamaServer], tmp_path: Path) -> Iterator[str]:
    served = [
        {"model_name": "tiny", "litellm_params": {"model": "openai/tiny", "api_base": one.url, "api_key": "none"}}
        for one in workers
    ]
    config = {
        "model_list": served,
        "router_settings": {"num_retries": 2, "cooldown_time": 5, "allowed_fails": 0},
        "general_settings": {"master_key": KEY},
    }
    (tmp_path / "litellm.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with socket.socket() as reserved, (tmp_path / "log").open("w") as log:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))  # so that nobody else is given its port, which the proxy may listen on
        port = reserved.getsockname()[1]
        command = [str(PROGRAM), "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
        proxy = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        until_s = time.monotonic() + 180
        while not _is_up(address):
            assert proxy.poll() is None and time.monotonic() < until_s, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.3)
    yield f"{address}/v1"
    proxy.kill()
    proxy.wait()


def _is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/liveliness", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_one_of_two_servers_is_killed_in_an_answer(url: str, workers: list[LlamaServer]) -> None:
    served = Servers([url], [KEY]).choose(None)
    assert (served.name, served.model.dialect) == ("tiny", PLAIN)
    engine = served.load()
    events = engine.stream(HELLO, options_for(engine.card, max_new_tokens=4096))
    assert any(isinstance(event, TextDelta) for event in events)
    (busy,) = (worker for worker in workers if worker.busy)
    busy.kill()
    with pytest.raises(ServerError) as failed:
        for _ in events:
            pass
    assert "\n" not in str(failed.value) and url in str(failed.value)
    for _ in range(4):  # some of these would have gone to the server that is gone
        *_, finished = engine.stream(HELLO, options_for(engine.card, max_new_tokens=4))
        assert isinstance(finished, Finished) and len(finished.text) == 4
    busy.start()

    events = engine.stream(HELLO, options_for(engine.card, max_new_tokens=4096))
    assert any(isinstance(event, TextDelta) for event in events)
    events.close()  # through the proxy, too
    wait_until(lambda: not any(worker.busy for worker in workers))
