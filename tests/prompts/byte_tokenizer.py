"""A tokenizer of single bytes with any special tokens: small, and true to how the published ones treat text."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from omnilmm.prompts.pieces import GROUNDING_TAGS

PICTURES = ("<unk>", "<image>", "</image>", "<slice>", "</slice>")
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *PICTURES, "<image_id>", "</image_id>", *GROUNDING_TAGS)
QWEN3 = (*CHATML, "<think>", "</think>")
MINICPM4 = ("<s>", "</s>", *CHATML[1:])
MINICPM = ("<s>", "</s>", *PICTURES, *GROUNDING_TAGS)
ZEPHYR = ("<s>", "</s>", "<unk>", "<im_start>", "<im_end>", "<im_patch>", *GROUNDING_TAGS)
LLAMA3 = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    *PICTURES,
    *GROUNDING_TAGS,
)


def byte_tokenizer(special_tokens: Iterable[str]) -> PreTrainedTokenizerFast:
    """One id per byte ("!" is 0, as in the tokenizers of Llama 3 and Qwen 2), then the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
    fast.add_special_tokens({"additional_special_tokens": list(special_tokens)})
    return fast
