"""Both templates with a tokenizer of their family: the built-in model's, and bytes under Llama 3's names."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation, Picture
from omnilmm.images.slicing import Size
from omnilmm.prompts import chatml, llama3
from omnilmm.prompts.pieces import PieceEncoder, Prompt, as_text
from tests.prompts.byte_tokenizer import LLAMA3, byte_tokenizer

QUERIES = 3


@dataclass(frozen=True)
class Writer:
    """A template and a tokenizer."""

    template: ModuleType
    encoder: PieceEncoder

    def prompt(self, conversation: Conversation, grids: list[Size | None] | None = None) -> Prompt:
        return self.encoder.encode(self.template.render(conversation, self._grids(conversation, grids)))

    def text(self, conversation: Conversation, grids: list[Size | None] | None = None) -> str:
        return as_text(self.template.render(conversation, self._grids(conversation, grids)), QUERIES)

    def decode(self, ids: list[int]) -> str:
        return str(self.encoder.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def controls(self, prompt: Prompt) -> list[int]:
        """All ids that are no text, in order."""
        return [token for token in prompt.input_ids if token in self.encoder.added.values()]

    @staticmethod
    def _grids(conversation: Conversation, grids: list[Size | None] | None) -> list[Size | None]:
        return grids if grids is not None else [None] * len(conversation.pictures)


@pytest.fixture(scope="session")
def chatml_writer() -> Writer:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(ROOT / "assets" / "built-in")
    return Writer(chatml, PieceEncoder(tokenizer, QUERIES))


@pytest.fixture(scope="session")
def llama3_writer() -> Writer:
    return Writer(llama3, PieceEncoder(byte_tokenizer(LLAMA3), QUERIES))


@pytest.fixture(scope="session", params=["chatml", "llama3"])
def writer(request: pytest.FixtureRequest) -> Writer:
    chosen: Writer = request.getfixturevalue(f"{request.param}_writer")
    return chosen


@pytest.fixture(scope="session")
def picture() -> Picture:
    return Picture(Image.new("RGB", (4, 4)))
