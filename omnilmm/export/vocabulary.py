"""The tokenizer as GGUF metadata: a byte-level BPE, whose pre-tokenizer llama.cpp knows by name.

Token types decide what llama.cpp shows and reads: control tokens are neither printed nor read from plain text, while
user-defined ones are both, which is what grounding tags and `<think>` need.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gguf
from gguf import TokenType

from omnilmm.errors import CheckpointError
from omnilmm.prompts.pieces import GROUNDING_TAGS

# The pre-tokenizer by what its definition in `tokenizer.json` contains: digits apart and GPT-2's pattern; Qwen2's
# pattern, which takes one digit at a time; Llama-3's, which takes up to three.
PRE_TOKENIZERS = {
    "qwen2": r"\p{N}|",
    "llama-bpe": r"\p{N}{1,3}|",
}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer in llama.cpp's terms.

    Attributes:
        tokens: every token in the order of its id, as many as the model has embeddings.
        types: their types.
        merges: merges of the BPE in order, "a b".
        pre: llama.cpp's name of the pre-tokenizer.
        ids: ids of the tokens that were added to the BPE.
    """

    tokens: list[str]
    types: list[TokenType]
    merges: list[str]
    pre: str
    ids: dict[str, int]

    def add_to(self, writer: gguf.GGUFWriter, end: str, pad: str, begin: str | None) -> None:
        """Add the metadata; `end`, `pad` and `begin` are tokens, `begin` only where the prompt starts with one."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        writer.add_eos_token_id(self.ids[end])
        writer.add_pad_token_id(self.ids.get(pad, self.ids[end]))
        if begin is not None:
            writer.add_bos_token_id(self.ids[begin])
        writer.add_add_bos_token(False)  # the template writes it


def vocabulary_of(tokenizer: Any, size: int) -> Vocabulary:
    """Convert a tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers.
        size: rows of the token embedding, at least as many as there are tokens.

    Raises:
        CheckpointError: It is no byte-level BPE, or llama.cpp has no pre-tokenizer like its own.
    """
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    model, pre = definition["model"], _pre_tokenizer(definition)
    added = {token["content"]: token for token in definition["added_tokens"]}
    by_id = {number: word for word, number in model["vocab"].items()}
    by_id |= {token["id"]: word for word, token in added.items()}
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(size)]
    if len(by_id) > size or max(by_id) >= size:
        raise CheckpointError("more_tokens_than_rows", tokens=max(by_id) + 1, rows=size)
    types = [_type(number in by_id, added.get(word)) for number, word in enumerate(tokens)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary(tokens, types, merges, pre, {word: token["id"] for word, token in added.items()})


def _type(is_there: bool, added: dict[str, Any] | None) -> TokenType:
    if not is_there:
        return TokenType.UNUSED
    if added is None:
        return TokenType.NORMAL
    is_text = added["content"] in GROUNDING_TAGS or not added["special"]
    return TokenType.USER_DEFINED if is_text else TokenType.CONTROL


def _pre_tokenizer(definition: dict[str, Any]) -> str:
    parts = (definition.get("pre_tokenizer") or {}).get("pretokenizers") or [definition.get("pre_tokenizer") or {}]
    kinds = [part.get("type") for part in parts]
    if definition["model"]["type"] == "BPE" and "ByteLevel" in kinds:
        patterns = " ".join(str(part.get("pattern", {}).get("Regex", "")) for part in parts if part["type"] == "Split")
        if "Digits" in kinds and parts[-1].get("use_regex"):
            return "starcoder"
        for name, pattern in PRE_TOKENIZERS.items():
            if pattern in patterns:
                return name
    raise CheckpointError("pre_tokenizer_not_in_llama_cpp", kinds=[str(kind) for kind in kinds])
