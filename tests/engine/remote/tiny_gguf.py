"""A tiny language model as a GGUF file, with random weights, for a real llama.cpp."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS = 64, 4
CONTEXT = 32_768
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _tokens() -> tuple[list[str], list[int]]:
    """All bytes as GPT-2 writes them, and ChatML's marks."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    chars = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    kinds = [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 3
    return [*chars, *marks], [int(kind) for kind in kinds]


def write_tiny(path: Path, seed: int = 0, width: int = WIDTH, layers: int = 1) -> Path:
    """Write a model of Qwen2's architecture whose answers are random letters without an end.

    Args:
        path: the file.
        seed: of the weights.
        width: width of the hidden states and of the MLPs.
        layers: number of layers; with many, an answer takes a while.
    """
    tokens, kinds = _tokens()
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["e r"])
    writer.add_eos_token_id(258)
    writer.add_bos_token_id(256)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(seed)

    def add(name: str, values: np.ndarray) -> None:
        writer.add_tensor(name, values.astype(np.float32))

    def drawn(*shape: int) -> np.ndarray:
        return random.standard_normal(shape) * 0.3 * (WIDTH / width) ** 0.5

    # The first number of every hidden state is large; by it the output prefers letters, and never ends an answer.
    embedding, head = drawn(len(tokens), width), drawn(len(tokens), width)
    embedding[:, 0] = 5 * (width / WIDTH) ** 0.5
    head[:, 0] = [3 if token.isascii() and token.isalpha() else -10 for token in tokens]
    add("token_embd.weight", embedding)
    add("output.weight", head)
    add("output_norm.weight", np.ones(width))
    for layer in range(layers):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            add(f"{block}.{norm}.weight", np.ones(width))
        for part in ("q", "k", "v"):
            add(f"{block}.attn_{part}.weight", drawn(width, width))
            add(f"{block}.attn_{part}.bias", np.zeros(width))
        add(f"{block}.attn_output.weight", drawn(width, width) * 0.1 / layers)
        add(f"{block}.ffn_gate.weight", drawn(width, width))
        add(f"{block}.ffn_up.weight", drawn(width, width))
        add(f"{block}.ffn_down.weight", drawn(width, width) * 0.1 / layers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
