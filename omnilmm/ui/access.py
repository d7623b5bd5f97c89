"""Access control: the accounts of `--auth`, and an ASGI middleware that guards every route.

The guard asks for a name and a password (HTTP Basic) and then sets a cookie, because not every browser sends
credentials when it opens a websocket. A rejected request never reaches the application, whether it is for a page, an
upload, a picture or a websocket.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from omnilmm.errors import OptionsError
from omnilmm.sentences import Sentence
from omnilmm.ui.attempts import Attempts, wait_line
from omnilmm.ui.texts import texts_for

COOKIE = "omnilmm_access"
REALM = 'Basic realm="OmniLMM Chat", charset="UTF-8"'
Accounts = dict[str, str]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def accounts(values: Sequence[str]) -> Accounts:
    """Parse accounts into passwords by name.

    Args:
        values: each either `user:password` or the path of a file with one account per line (empty lines and lines that
            begin with `#` are ignored).

    Raises:
        OptionsError: A value is neither, or a name occurs twice. The message contains no password.
    """
    found: Accounts = {}
    for value in values:
        for line, where in _lines(value):
            name, colon, password = line.partition(":")
            if not (name and colon and password):
                raise OptionsError("account_unusable", where=where)
            if name in found:
                raise OptionsError("account_twice", name=name)
            found[name] = password
    return found


def _lines(value: str) -> Iterable[tuple[str, Sentence]]:
    """Return each account line with the place where it was given, for error messages."""
    if ":" in value and not Path(value).is_file():
        return [(value, Sentence("one_value"))]
    try:
        lines = Path(value).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionsError("accounts_unreadable", file=value, reason=reason) from error
    found = [
        (line.strip(), Sentence("line_of_file", number=number, file=value))
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise OptionsError("accounts_empty", file=value)
    return found


def account_in(cookie: str | None) -> str:
    """Return the account name in a cookie that `Guard` has accepted; empty where no login is required."""
    try:
        return bytes.fromhex((cookie or "").partition(".")[0]).decode()
    except ValueError:
        return ""


def address_of(scope: Scope) -> str:
    """Return the client address of a request, as far as the server knows it."""
    return str((scope.get("client") or ("",))[0])


def _given(authorization: str) -> tuple[str, str] | None:
    """Decode the name and the password of an Authorization header; None if it has no Basic credentials."""
    kind, _, encoded = authorization.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, password


class Guard:
    """ASGI middleware that lets only people with an account reach the application.

    Args:
        application: the ASGI application to protect.
        accounts: passwords by name.
    """

    def __init__(self, application: Application, accounts: Accounts) -> None:
        self.application, self.accounts = application, accounts
        self._attempts = Attempts()
        self._key = secrets.token_bytes()  # per process: after a restart everybody has to sign in again

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] not in ("http", "websocket"):  # lifespan events
            await self.application(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self._has_cookie(headers.get(b"cookie", "")):
            await self.application(scope, receive, send)
        elif waits_s := self._waits_s(scope, headers.get(b"authorization", "")):
            await self._refuse(scope, receive, send, wait_line(waits_s, headers.get(b"accept-language")), waits_s)
        elif name := self._who(headers.get(b"authorization", ""), scope):
            await self.application(scope, receive, self._with_cookie(name, scope, send))
        elif scope["type"] == "websocket":
            await receive()  # `websocket.connect` has to be received before the connection can be refused
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._ask(send, headers.get(b"accept-language"))

    def _waits_s(self, scope: Scope, authorization: str) -> float:
        given = _given(authorization)
        return self._attempts.wait_s(address_of(scope), given[0]) if given else 0.0

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, line: str, waits_s: float) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", str(int(waits_s) + 1).encode())]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": f"{line}\n".encode()})

    def _who(self, authorization: str, scope: Scope) -> str | None:
        """Return the account name in an Authorization header if its password is right, else None."""
        given = _given(authorization)
        if given is None:
            return None
        name, password = given
        known = self.accounts.get(name)
        is_right = hmac.compare_digest((known or "").encode(), password.encode())  # takes as long for an unknown name
        if known is None or not is_right:
            self._attempts.failed(address_of(scope), name)
            return None
        self._attempts.succeeded(address_of(scope), name)
        return name

    def _has_cookie(self, header: str) -> bool:
        try:
            cookie = SimpleCookie(header).get(COOKIE)
        except CookieError:
            return False
        encoded, _, signature = (cookie.value if cookie else "").partition(".")
        return bool(encoded) and hmac.compare_digest(self._sign(encoded).encode(), signature.encode())

    def _sign(self, encoded: str) -> str:
        return hmac.new(self._key, encoded.encode(), "sha256").hexdigest()

    def _with_cookie(self, name: str, scope: Scope, send: Send) -> Send:
        encoded = name.encode().hex()
        secure = "; Secure" if scope.get("scheme") in ("https", "wss") else ""
        cookie = f"{COOKIE}={encoded}.{self._sign(encoded)}; Path=/; HttpOnly; SameSite=Strict{secure}"

        async def send_with_cookie(message: MutableMapping[str, Any]) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                headers = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
                message = {**message, "headers": headers}
            await send(message)

        return send_with_cookie

    async def _ask(self, send: Send, languages: str | None) -> None:
        line = texts_for(languages).translate(Sentence("asks_for_account"))
        headers = [(b"www-authenticate", REALM.encode()), (b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": f"{line}\n".encode()})
