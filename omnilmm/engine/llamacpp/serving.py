"""The child process: llama.cpp's HTTP server on a random loopback port. A script that imports nothing of ours.

It reads its settings as one line of JSON from the standard input, so that the key is in no process list, prints
`{"url": …}` once the model is loaded, and ends when the input is closed: when its parent stops it, or is gone.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve until the standard input ends."""
    settings = json.loads(sys.stdin.readline())
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path = settings["model"]
    if settings["mmproj"]:
        given.mmproj.path = settings["mmproj"]
    given.hostnames, given.port = ["127.0.0.1"], 0
    given.api_keys, given.cors_origins, given.ui = [settings["key"]], "", False
    given.model_alias = {settings["alias"]}
    given.n_ctx, given.n_parallel = settings["context"] * settings["slots"], settings["slots"]
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = settings["threads"]
    given.offline, given.verbosity = True, settings["verbosity"]
    if settings["features"]:  # the outputs of each token instead of answers, for `omnilmm.export.features`
        given.embedding, given.embd_normalize = True, -1
        given.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE
    if settings["exact"]:
        given.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        given.cache_type_k = given.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    given.cache_ram_mib = settings["cache_mib"]
    if settings["on_cpu"]:
        given.n_gpu_layers, given.mmproj_use_gpu = 0, False
    server = xllamacpp.Server(given)
    found = [] if settings["on_cpu"] else xllamacpp.get_device_info()
    names = [one["description"] for one in found if one["type"].name.endswith("GPU")]  # GPU, IGPU
    sys.stdout.write(json.dumps({"url": server.listening_address, "devices": names}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # without waiting for answers that nobody will read


if __name__ == "__main__":
    main()
