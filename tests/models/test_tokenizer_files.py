"""A tokenizer is read from each of the forms that checkpoints have it in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoProcessor

from omnilmm.conversation import Conversation
from omnilmm.errors import CheckpointError
from omnilmm.models.processor import MiniCPMVProcessor
from tests.models.tiny import OMNILMM, VERSIONS, save_tiny, tiny_processor

QUESTION = Conversation().with_message("user", "Is  it <image>你好</image> or not? 2026\n")
PUBLISHED = {"tokenizer_class": "MiniCPMVTokenizerFast", "auto_map": {"AutoTokenizer": [None, "code.Tokenizer"]}}


def as_vocabulary(folder: Path, settings: dict[str, object] | None) -> Path:
    """In place of tokenizer.json: vocab.json and merges.txt; its special tokens in tokenizer_config.json, or beside."""
    whole = json.loads((folder / "tokenizer.json").read_text())
    added = whole["added_tokens"]
    (folder / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    if settings is None:
        (folder / "added_tokens.json").write_text(json.dumps({token["content"]: token["id"] for token in added}))
    else:
        decoder = {str(token.pop("id")): token for token in added}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": decoder}))
    return folder


@pytest.mark.parametrize(
    "settings",
    [{}, {"tokenizer_class": "Qwen2Tokenizer"}, PUBLISHED, None],
    ids=["no class", "Qwen2", "published", "added_tokens.json alone"],
)
def test_vocabulary_and_merges_do_for_2_6(tmp_path: Path, settings: dict[str, object] | None) -> None:
    folder = as_vocabulary(save_tiny(tmp_path), settings)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    expected = tiny_processor()
    assert processor.prompt(QUESTION) == expected.prompt(QUESTION)
    assert processor.stop_ids == expected.stop_ids
    processor.save_pretrained(tmp_path / "again")
    shutil.copyfile(folder / "config.json", tmp_path / "again" / "config.json")
    assert MiniCPMVProcessor.from_pretrained(tmp_path / "again").prompt(QUESTION) == expected.prompt(QUESTION)


def test_words_are_split_as_qwen2_does(tmp_path: Path) -> None:
    """Digit by digit, and never across a blank: merges apply within words alone."""
    folder = as_vocabulary(save_tiny(tmp_path), {})
    vocabulary = json.loads((folder / "vocab.json").read_text())
    free = range(len(vocabulary), len(vocabulary) + 2)  # the special tokens' ids move up
    vocabulary |= dict(zip(("20", "it"), free, strict=True))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    decoder = {str(int(number) + 2): token for number, token in settings["added_tokens_decoder"].items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": decoder}))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n2 0\ni t\n")
    tokenizer = AutoProcessor.from_pretrained(folder, trust_remote_code=False).tokenizer
    assert tokenizer.tokenize("it20") == ["it", "2", "0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_without_a_tokenizer_says_what_was_expected(tmp_path: Path, version: str) -> None:
    folder = save_tiny(tmp_path, version)
    (folder / "tokenizer.json").unlink()
    qwen = r"tokenizer\.json, or vocab\.json and merges\.txt"
    form = {"2.5": r"tokenizer\.json\.$", "2.6": qwen, "4.5": qwen}
    with pytest.raises(CheckpointError, match=form.get(version, r"tokenizer\.json or tokenizer\.model")) as error:
        MiniCPMVProcessor.from_pretrained(folder)
    assert str(folder) in str(error.value)
    (folder / "vocab.json").write_text("{}")  # half of a form is none
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        MiniCPMVProcessor.from_pretrained(folder)


def test_special_tokens_that_no_file_names_are_missed(tmp_path: Path) -> None:
    folder = as_vocabulary(save_tiny(tmp_path), None)
    (folder / "added_tokens.json").unlink()
    with pytest.raises(CheckpointError, match=r"no token '<.*tokenizer_config\.json or added_tokens\.json"):
        MiniCPMVProcessor.from_pretrained(folder)


@pytest.mark.parametrize("left", ["tokenizer_config.json", "added_tokens.json"])
def test_pieces_with_either_list_of_special_tokens_do_for_12b(tmp_path: Path, left: str) -> None:
    folder = save_tiny(tmp_path, "omnilmm")
    expected = AutoProcessor.from_pretrained(folder, trust_remote_code=False).prompt(QUESTION)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if name != left:
            (folder / name).unlink()
    assert not (folder / "tokenizer.json").exists() and (OMNILMM / "tokenizer.model").exists()
    assert AutoProcessor.from_pretrained(folder, trust_remote_code=False).prompt(QUESTION) == expected
