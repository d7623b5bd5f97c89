"""The program trains a folder's model, exports its weights and measures them; a smaller model can be taken over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from built_in import __main__ as program
from built_in import evaluation
from built_in.cells import CELLS
from built_in.data import Lessons, collate
from built_in.initialise import initialise, take_over
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from tests.built_in.small import small_config, small_model


@pytest.fixture
def folder(tmp_path: Path, processor: MiniCPMVProcessor) -> Path:
    """What the repository has before training: a config.json and a tokenizer."""
    small_config().save_pretrained(tmp_path / "model")
    processor.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_is_trained_exported_and_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run, page = tmp_path / "recipe.yaml", tmp_path / "run", tmp_path / "wrong.html"
    recipe.write_text("{steps: 2, batch_size: 2, warmup: 1, decay: 0, save_every: 2, workers: 0, half: false}")
    monkeypatch.setattr(evaluation, "MAX_ANSWER_TOKENS", 4)
    monkeypatch.setattr(evaluation, "BATCH", 2)

    def go(*words: str) -> str:
        capsys.readouterr()
        arguments = program.parser().parse_args(["--model", str(folder), *words])
        {"train": program.train, "export": program.export, "evaluate": program.evaluate}[words[0]](arguments)
        return capsys.readouterr().out

    go("train", "--run", str(run), "--recipe", str(recipe), "--device", "cpu")
    trained = load_file(run / "checkpoint-2" / "model.safetensors")
    of_the_run = go("evaluate", "--run", str(run), "--questions", "3", "--only", "chat", "colour")
    assert not (folder / "model.safetensors").exists()
    go("export", "--run", str(run))
    exported = MiniCPMV.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, trained[f"model.{name}"].bfloat16().float()) for name, tensor in exported.items())
    assert "\n- " not in of_the_run
    printed = go("evaluate", "--questions", "30", "--quick", "--only", "chat", "colour", "--gallery", str(page))
    described = go("evaluate", "--questions", "2", "--only", "description", "--dtype", "bf16")
    assert re.search(r"^- description: of what is there, is named: [01]\.\d{3}$", described, re.MULTILINE)
    for table in (of_the_run, printed):
        assert re.findall(r"^\| (\w+) \| (\d+) \|", table, re.MULTILINE) == [("colour", "3"), ("chat", "3")]
    assert "wrong</h2>" in page.read_text(encoding="utf-8")


def test_a_run_without_a_saved_state_cannot_be_exported(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = program.parser().parse_args(["--model", str(folder), "export", "--run", str(tmp_path / "empty")])
    with pytest.raises(SystemExit, match="no saved state"):
        program.export(arguments)


def test_an_ability_that_there_is_not_is_refused_with_those_that_there_are(folder: Path) -> None:
    arguments = program.parser().parse_args(["--model", str(folder), "evaluate", "--only", "color", "shape"])
    with pytest.raises(SystemExit, match=r"no ability color\. There are: .*colour, .*chat\."):
        program.evaluate(arguments)


def test_a_model_of_the_same_make_is_taken_over_whole(folder: Path, processor: MiniCPMVProcessor) -> None:
    taught, heir = small_model(seed=1), small_model(seed=2)
    taught.save_pretrained(folder)
    assert take_over(heir, processor.tokenizer, folder) == []
    for name, tensor in taught.state_dict().items():
        assert torch.equal(tensor, heir.state_dict()[name]), name


def test_a_deeper_model_begins_as_the_one_it_took_over(folder: Path, processor: MiniCPMVProcessor) -> None:
    """New layers pass on what they get, so that it says the same."""
    taught = small_model(seed=1).eval()
    taught.save_pretrained(folder)
    config = small_config()
    config.text_config.num_hidden_layers += 1
    config.text_config.layer_types += ["full_attention"]
    config.vision_config.num_hidden_layers += 1
    torch.manual_seed(3)
    deeper = MiniCPMV(config).eval()
    kept = take_over(deeper, processor.tokenizer, folder)
    new = {
        part: [name for name in kept if name.startswith(part)] for part in ("llm.model.layers.", "vpm.encoder.layers.")
    }
    assert all(new.values()) and sum(map(len, new.values())) == len(kept)
    ids, rules = torch.arange(60)[None], processor.config.slicing_rules
    batch = collate([Lessons(1, processor.encoder, rules)[0]])
    with torch.inference_mode():
        for say in (
            lambda model: model.llm(input_ids=ids).logits,
            lambda model: model.get_image_features(batch["pixel_values"], batch["target_sizes"]),
        ):
            assert torch.allclose(say(taught), say(deeper), atol=1e-4)


def test_queries_of_a_coarser_grid_are_moved_to_their_place(folder: Path, processor: MiniCPMVProcessor) -> None:
    coarse = small_config()
    coarse.query_num = (CELLS - 1) ** 2
    torch.manual_seed(4)
    taught = MiniCPMV(coarse)
    taught.save_pretrained(folder)
    heir = small_model(seed=5)
    lessons = Lessons(1, processor.encoder, processor.config.slicing_rules)
    initialise(heir, collate([lessons[number] for number in range(6)])["pixel_values"])
    own = heir.resampler.query.detach().clone().view(CELLS, CELLS, -1)
    take_over(heir, processor.tokenizer, folder)
    queries = heir.resampler.query.detach().view(CELLS, CELLS, -1)
    old = taught.resampler.query.detach().view(CELLS - 1, CELLS - 1, -1)
    assert torch.allclose(queries[:-1, :-1], old, atol=1e-6)
    assert torch.allclose(queries[-1, 0] - queries[-2, 0], own[-1, 0] - own[-2, 0], atol=1e-5)
