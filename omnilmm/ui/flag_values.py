"""What the flags of `flags.py` mean once they are given, and whether they can be met."""

from __future__ import annotations

import argparse
import os
import shutil
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omnilmm.adapter_files import with_adapter
from omnilmm.catalog import BUILT_IN
from omnilmm.engine.options import Sampling
from omnilmm.errors import MissingPackageError, OptionsError
from omnilmm.hardware import prepare_environment, resolve_device, resolve_dtype
from omnilmm.images.limits import PREFIX, limits
from omnilmm.live import ESPEAK
from omnilmm.model_lookup import find
from omnilmm.ui.flags import KEY_VARIABLE, LOADING, Parser, add_live_flags, add_loading_flags


def requested_model(args: argparse.Namespace) -> str:
    """Return the name of the requested model, with its adapter."""
    return with_adapter(BUILT_IN if args.model is None else args.model, args.adapter)


def loading_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags as arguments of `load_engine` and `OmniLMMChat`."""
    return {name: getattr(args, name) for name in LOADING} | {"model": requested_model(args)}


def loading_line(args: argparse.Namespace, server: str | None = None, dtype: str | None = None) -> str:
    """Return what else than the model's name decides how it answers, in one line, to tell runs apart.

    Args:
        args: with the flags of `add_loading_flags`.
        server: host and port of the server that answers; None for this machine.
        dtype: the dtype or quantisation of the loaded model; that of the flags, maybe "auto", if it is not loaded yet.
    """
    if server:
        return f"server {server}"
    given = {name: getattr(args, name) for name in ("quant", "mmproj", "revision", "max_slices")}
    chosen = [f"{name} {value}" for name, value in given.items() if value is not None]
    return ", ".join([f"dtype {dtype or args.dtype}", *chosen])


def engine_keys(args: argparse.Namespace) -> list[str]:
    """Return the keys of the servers: of the flags, or else that of the environment variable."""
    return args.engine_keys or [key for key in [os.environ.get(KEY_VARIABLE)] if key]


def text_keys(args: argparse.Namespace) -> list[str]:
    """Return the key of the text model's server; see `second_keys`."""
    return second_keys(args, args.text_key)


def second_keys(args: argparse.Namespace, given: str | None) -> list[str]:
    """Return the key of a server beside that of `--engine-url`; the variable's is not sent to two servers."""
    if given:
        return [given]
    return [] if args.engine_urls and not args.engine_keys else [key for key in [os.environ.get(KEY_VARIABLE)] if key]


def require(package: str, extra: str) -> None:
    """Check that an optional package is installed.

    Raises:
        MissingPackageError: It is not; the message has the command that installs it.
    """
    if find_spec(package) is None:
        raise MissingPackageError("extra_missing", package=package, extra=extra)


def check_requested(args: argparse.Namespace) -> None:
    """Check what was requested explicitly before the page is announced; `auto` takes what is available.

    Raises:
        ModelNotFoundError: There is no such model.
        HardwareError: There is no such device here, or it cannot compute with that dtype.
        OptionsError: No picture can be cut into that many slices, or a flag has no effect with `--engine-url`.
    """
    Sampling(max_slices=args.max_slices)
    if args.engine_urls:
        check_for_server(args)
    if args.max_file_size > limits().file_mb:  # whatever may be uploaded may also be decoded
        os.environ[f"{PREFIX}FILE_MB"] = str(args.max_file_size)
    if args.engine_urls:
        return
    card = find(requested_model(args))
    if args.device in ("auto", "cpu") and args.dtype == "auto":
        return  # cannot fail, and torch takes seconds to import
    prepare_environment(args.device)
    resolve_dtype(args.dtype, resolve_device(args.device).value, card.stored, card.parameters)


def check_for_server(args: argparse.Namespace) -> None:
    """Check that no flag is given that has no effect with `--engine-url`.

    Raises:
        OptionsError: One is.
    """
    defaults = Parser()
    add_loading_flags(defaults)
    own = vars(defaults.parse_args([]))
    given = [name for name in (*LOADING, "adapter") if name != "model" and getattr(args, name) != own[name]]
    if given:
        names = {"feature_cache_mib": "--feature-cache", "prefix_cache_mib": "--prefix-cache"}
        flags = [names.get(name, f"--{name.replace('_', '-')}") for name in given]
        raise OptionsError("flags_of_this_machine", flags=flags)


def check_live(args: argparse.Namespace) -> None:
    """Check the flags of the live view.

    Raises:
        OptionsError: One is given without `--live`, or there is no such voice here.
    """
    defaults = Parser()
    add_live_flags(defaults)
    given = [name for name, value in vars(defaults.parse_args([])).items() if getattr(args, name) != value]
    if not args.live and given:
        raise OptionsError("flags_of_live", flags=[f"--{name.replace('_', '-')}" for name in given])
    if args.voice == ESPEAK and shutil.which(ESPEAK) is None:
        raise OptionsError("voice_missing", voice=ESPEAK)


def check_live_link(args: argparse.Namespace) -> None:
    """Check the flags of a page that has no live view of its own.

    Raises:
        OptionsError: A live view is wanted here, or the address is none.
    """
    if args.live:
        raise OptionsError("live_on_gradio_page")
    if args.live_url is None:
        return
    try:
        parts = urlsplit(args.live_url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionsError("no_live_url", given=args.live_url)


def check_certificate(certificate: str | None, key: str | None) -> None:
    """Check the files of `--ssl-certfile` and `--ssl-keyfile`.

    Raises:
        OptionsError: They are not both given, not there, or not a certificate with its private key.
    """
    for file in (certificate, key):
        if file is not None and not Path(file).is_file():
            raise OptionsError("no_ssl_file", file=file)
    if (certificate is None) != (key is None):
        raise OptionsError("ssl_files_together")
    if certificate is None:
        return
    try:  # without a password, for which the servers would ask on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise OptionsError("ssl_files_unusable", certificate=certificate, key=key, reason=reason) from error
