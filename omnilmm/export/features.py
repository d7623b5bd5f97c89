"""Reads the picture features that llama.cpp computes, which its server does not offer.

Trick: a language model of one layer is written beside the mmproj file, whose attention copies. Every token of the text
"aaa…" after a picture attends, by its rotary phase alone, to the token a fixed distance before it, so the outputs are
the features of one view, up to the scale that RMS norms remove. The letter chooses the distance, and so the view.

`Q` features per view · `D` width · `n` views
"""

from __future__ import annotations

import base64
import io
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import torch
from gguf import TokenType
from PIL import Image
from torch import Tensor

from omnilmm.engine.llamacpp.child import LlamaServer, Settings
from omnilmm.images.pixels import cut, patch_strip, stack_strips

LETTERS = string.ascii_lowercase
WORDS = [*LETTERS, "Ċ", "Ġ"]
CONTROLS = ["<image>", "</image>", "<slice>", "</slice>", "<|im_end|>"]
BASE = 10_000.0
SHARPNESS = 40.0  # scores of neighbours differ by more than 60


def write_copying_model(path: Path, width: int, distances: Sequence[int]) -> None:
    """Write the language model whose token number k copies the token `distances[k]` before it.

    Args:
        path: the file to write.
        width: D.
        distances: one for each letter that is used.
    """
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("copying")
    writer.add_context_length(8192)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(1e-12)
    tokens = WORDS + CONTROLS
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("starcoder")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.NORMAL] * len(WORDS) + [TokenType.CONTROL] * len(CONTROLS))
    writer.add_token_merges(["Ġ Ċ"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)
    for name, numbers in _copying_tensors(width, len(tokens), distances).items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copying_tensors(width: int, tokens: int, distances: Sequence[int]) -> dict[str, np.ndarray]:
    half = width // 2
    speeds = BASE ** (-np.arange(half) / half)
    embedding = np.zeros((tokens, width), np.float32)
    queries = np.zeros((width, width), np.float32)
    for token, distance in enumerate(distances):
        embedding[token, token] = 1e-6  # the norm before the attention makes it sqrt(D); in the sum it is nothing
        queries[:half, token] = SHARPNESS * np.cos(distance * speeds)
        queries[half:, token] = -SHARPNESS * np.sin(distance * speeds)
    key = np.concatenate([np.ones(half, np.float32), np.zeros(half, np.float32)])
    one, none = np.ones(width, np.float32), np.zeros(width, np.float32)
    small, same = np.zeros((32, width), np.float32), np.eye(width, dtype=np.float32)
    layer = {
        "attn_norm.weight": one,
        "attn_q.weight": queries,
        "attn_q.bias": none,
        "attn_k.weight": np.zeros((width, width), np.float32),
        "attn_k.bias": key,
        "attn_v.weight": same,
        "attn_v.bias": none,
        "attn_output.weight": same,
        "ffn_norm.weight": one,
        "ffn_gate.weight": small,
        "ffn_up.weight": small,
        "ffn_down.weight": small.T.copy(),
    }
    whole = {"token_embd.weight": embedding, "output_norm.weight": one, "output.weight": embedding}
    return whole | {f"blk.0.{name}": numbers for name, numbers in layer.items()}


def features(
    mmproj: Path, folder: Path, image: Image.Image, queries: int, width: int, columns: int, views: int, threads: int = 0
) -> Tensor:
    """Return the features that llama.cpp computes, [n, Q, D], up to a scale per feature.

    Args:
        mmproj: the file of the vision tower.
        folder: a folder for the copying model, which can be deleted afterwards.
        image: the picture.
        queries: Q.
        width: D.
        columns: columns of its grid of slices.
        views: n as llama.cpp cuts the picture.
        threads: of llama.cpp; 0 for one per physical core.
    """
    starts = [1 + view * (queries + 2) + max(view - 1, 0) // columns for view in range(views)]
    ends = starts[-1] + queries + 1
    model = folder / "copying.gguf"
    write_copying_model(model, width, [ends - start for start in starts])
    server = LlamaServer(Settings(str(model), str(mmproj), context=2048, features=True, exact=True, threads=threads))
    try:
        return torch.stack([_asked(server, image, LETTERS[view] * queries) for view in range(views)])
    finally:
        server.stop()


def of_model(model: Any, image: Image.Image) -> Tensor:
    """Return the features that our own code computes for a picture, [n, Q, D] in float32.

    Args:
        model: a native model.
        image: the picture.
    """
    patch = model.config.slicing_rules.patch_size
    views = cut(image, model.config.plan(image.size))
    strips = stack_strips([patch_strip(view, patch, model.config.normalisation) for view in views])
    sizes = torch.tensor([(view.height // patch, view.width // patch) for view in views])
    with torch.no_grad():
        found: Tensor = model.get_image_features(torch.from_numpy(strips).to(model.device), sizes.to(model.device))
    return found.float().cpu()


def _asked(server: LlamaServer, image: Image.Image, text: str) -> Tensor:
    headers = {"Authorization": f"Bearer {server.key}"}
    file = io.BytesIO()
    image.save(file, "png")
    with httpx.Client(base_url=server.url, headers=headers, timeout=600, trust_env=False) as client:
        marker = client.get("/props").raise_for_status().json()["media_marker"]
        data = [base64.b64encode(file.getvalue()).decode()]
        content = {"prompt_string": marker + text, "multimodal_data": data}
        answer = client.post("/embedding", json={"content": content}).raise_for_status().json()
    return torch.tensor(answer[0]["embedding"])[-len(text) :]  # without `</image>`
