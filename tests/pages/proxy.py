"""A proxy in front of a page: what comes for `/path/…` goes to the page as `/…`, answers stream back."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]


@contextmanager
def proxied(address: str, path: str) -> Iterator[str]:
    """Serve the site at `address` under `path` of another address, which is given."""
    # A connection for each request: one that was idle may be closed by the server just when it is used again.
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.AsyncClient(base_url=address, timeout=600, trust_env=False, limits=limits)

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def forward(request: Request) -> Response:
        inside = request.url.path.removeprefix(path).lstrip("/")
        url = httpx.URL(f"{address}{inside}", query=request.url.query.encode())
        sent = client.build_request(request.method, url, headers=request.headers.raw, content=request.stream())
        answer = await client.send(sent, stream=True)
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers, background=BackgroundTask(answer.aclose)
        )

    app = Starlette(routes=[Route(f"{path}/{{rest:path}}", forward, methods=METHODS)], lifespan=running)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, name="proxy", daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the proxy did not start"
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{path}/"
    finally:
        server.should_exit = True
        thread.join()
