"""Load the tokenizer of a checkpoint from whichever of its file formats is present.

`tokenizer.json` works for every version. Published beside it or alone: `tokenizer.model` (SentencePiece; 1.0, 2.0,
12B), and `vocab.json` with `merges.txt` (2.6), whose pre-tokenization is only defined in transformers' Qwen2 tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, Qwen2Tokenizer
from transformers.utils import cached_file

from omnilmm.errors import CheckpointError
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.sentences import Sentence
from omnilmm.versions import Tokenizer

WHOLE, PIECES = "tokenizer.json", "tokenizer.model"
VOCABULARY = ("vocab.json", "merges.txt")
FORMS: dict[Tokenizer, str | Sentence] = {
    "whole": WHOLE,
    "pieces": Sentence("one_of_files", files=(WHOLE, PIECES)),
    "vocabulary": Sentence("file_or_files", file=WHOLE, files=VOCABULARY),
}


def load_tokenizer(folder_or_id: str | Path, config: Any, **where: Any) -> Any:
    """Load the tokenizer; special tokens are read from `tokenizer_config.json` or `added_tokens.json`.

    Args:
        folder_or_id: folder or hub id of the checkpoint.
        config: its configuration.
        **where: arguments of `from_pretrained` that locate it.

    Raises:
        CheckpointError: The checkpoint has none of the tokenizer files.
    """
    kind = config.row.tokenizer if isinstance(config, MiniCPMVConfig) else "pieces"

    def has(name: str) -> bool:
        return cached_file(str(folder_or_id), name, _raise_exceptions_for_missing_entries=False, **where) is not None

    if has(WHOLE) or has(PIECES):
        return AutoTokenizer.from_pretrained(folder_or_id, config=config, trust_remote_code=False, **where)
    if kind == "vocabulary" and all(map(has, VOCABULARY)):
        return Qwen2Tokenizer.from_pretrained(folder_or_id, **where)
    raise CheckpointError("no_tokenizer", folder=folder_or_id, files=FORMS[kind])


def begins(tokenizer: Any) -> bool:
    """Return whether a tokenizer adds its BOS token by itself."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and ids[0] == tokenizer.bos_token_id
