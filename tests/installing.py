"""Installs what the tests need, several times faster than pip, from the same places and with the same result.

    python -m tests.installing -c constraints.txt -r requirements.txt

uv downloads, unpacks and compiles on every core; pip does so with one. Where pip looks for packages stands in its own
configuration, which uv does not read: it is told. Where uv cannot be had or does not succeed, pip does all.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys

PIP = [sys.executable, "-m", "pip"]
QUIET = ["--quiet", "--disable-pip-version-check"]
SECTIONS = ("global", "install", ":env:")  # of pip's configuration; later ones win
OPTIONS = {  # pip's names and uv's
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
    "trusted-host": "--allow-insecure-host",
}


def configured(listed: str) -> dict[str, str]:
    """What `pip config list` tells, by the names of its options."""
    found = {}
    for section in SECTIONS:
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                found[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return found


def uv_options(pip: dict[str, str]) -> list[str]:
    """The same for uv: where packages are, and what else limits their versions."""
    alone = ["--no-index"] if pip.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t") else []
    named = [(option, value) for name, option in OPTIONS.items() for value in pip.get(name, "").split()]
    return [*alone, *(word for pair in named for word in pair)]


def with_uv(arguments: list[str]) -> bool:
    """Whether uv has installed it."""
    if subprocess.run([*PIP, "install", *QUIET, "-c", "constraints.txt", "uv"], check=False).returncode:
        return False
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout
    pip = configured(listed)
    # As pip does: the best version wherever it is, into this environment, bytecode at once.
    how = ["--index-strategy", "unsafe-best-match", "--python", sys.executable, "--compile-bytecode"]
    told = {name: pip[key] for name, key in (("SSL_CERT_FILE", "cert"), ("ALL_PROXY", "proxy")) if key in pip}
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", *how, *uv_options(pip), *arguments]
    return subprocess.run(command, env=told | os.environ, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    """Install what the arguments of `pip install` say."""
    if with_uv(arguments):
        return 0
    print("uv did not succeed; pip installs everything (a few minutes) …", file=sys.stderr)
    return subprocess.run([*PIP, "install", *QUIET, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
