"""An exported model answers in the real llama.cpp as it does in our engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import jinja2
import pytest
import torch
from gguf import GGUFReader, TokenType
from PIL import Image
from transformers import PreTrainedTokenizerFast

from built_in.evaluation import ROWS, held_out
from omnilmm.catalog import BUILT_IN
from omnilmm.conversation import Conversation
from omnilmm.engine.llamacpp.child import LlamaServer, Settings
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Sampling
from omnilmm.errors import CheckpointError
from omnilmm.export import features
from omnilmm.export.__main__ import main
from omnilmm.export.checking import Asker, compare, worst_cosine
from omnilmm.export.template import chat_template
from omnilmm.export.to_gguf import Exported, export_gguf
from omnilmm.export.vision import inexact_lengths, stretched
from omnilmm.images.pixels import open_picture
from omnilmm.model_lookup import find
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.vision import fractional_buckets
from omnilmm.prompts import chatml, llama3, qwen3
from omnilmm.prompts.pieces import GROUNDING_TAGS, Piece, Slots, as_text
from omnilmm.training import adapters
from omnilmm.training.targets import Tuning
from tests.models.tiny import save_tiny, tiny_config

BUILT_IN_FOLDER = Path(find(BUILT_IN).location)
CONTROL = re.compile(r"<\|.*?\|>")  # our engine shows those that a random model writes in the middle
GREEDY = Sampling(temperature=0.0, repetition_penalty=1.0, max_new_tokens=24)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    folder = tmp_path_factory.mktemp("gguf")
    return {kind: export_gguf(BUILT_IN_FOLDER, folder, "built-in", kind) for kind in ("f32", "f16")}


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return load_engine(dtype="fp32")


@pytest.fixture(scope="module")
def asker(exports: dict[str, Exported]) -> Iterator[Asker]:
    one = exports["f32"]
    with closing(Asker(Settings(str(one.model), str(one.mmproj), context=2048, exact=True))) as found:
        yield found


def answered(engine: LocalEngine, conversation: Conversation) -> str:
    *_, last = engine.stream(conversation, GREEDY)
    return last.text  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_llama_cpp_answers_the_samples_as_our_engine_does(
    kind: str, exports: dict[str, Exported], engine: LocalEngine
) -> None:
    found = list(compare(engine, exports[kind]))
    assert len(found) == 44
    assert not [one for one in found if one.is_square and not one.is_equal]
    # As they are, llama.cpp cuts them in another way, which moves one side of one box.
    assert {one.picture for one in found if not one.is_equal} <= {"box.png"}


def test_unseen_questions_are_answered_alike_about_pictures_that_both_cut_alike(
    engine: LocalEngine, asker: Asker
) -> None:
    rows = [row for row in ROWS if row.kind == "scene"][:10]
    lessons = [held_out(row, number) for row in rows for number in range(4)]
    for lesson in lessons:
        image, question = lesson.pictures[0].image.resize((168, 168)), lesson.turns[0].question
        ours = answered(engine, Conversation().with_message("user", open_picture(image), question))
        assert asker.ask(image, question, length=24) == ours
    assert len(lessons) == 40


def test_features_are_equal_where_the_pictures_are_cut_alike(engine: LocalEngine, exports: dict[str, Exported]) -> None:
    assert worst_cosine(engine, exports["f32"]) > 0.999999


@pytest.mark.parametrize(("version", "least"), [("2.6", 0.999999), ("4.5", 0.999999), ("2.5", 0.9)])
def test_features_of_the_other_versions(
    version: str, least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of 2.5 differ, as llama.cpp gives its patches two-dimensional positions. No proxy is asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.delenv("NO_PROXY", raising=False)
    one, model = exported_tiny(version, tmp_path)
    image = Image.effect_mandelbrot((112, 56), (-2, -1, 1, 1), 30).convert("RGB")
    if version == "2.5":  # whose slices have other tokens around them
        image = image.resize((56, 56))
    theirs = features.features(one.mmproj, tmp_path, image, 4, 128, 2, 1 if version == "2.5" else 3)
    ours = features.of_model(model, image)
    worst = float(torch.cosine_similarity(ours, theirs, dim=2).min())
    assert worst > least
    assert (worst < 0.9999) == (version == "2.5")
    assert any(one.code == "gguf_positions_of_2_5" for one in one.warnings) == (version == "2.5")


@pytest.mark.parametrize("version", ["2.5", "4.5"])
def test_the_language_models_of_other_versions_answer_alike(version: str, tmp_path: Path) -> None:
    one, _ = exported_tiny(version, tmp_path)
    ours = load_engine(str(tmp_path / "model"), dtype="fp32")
    with closing(Asker(Settings(str(one.model), context=512, exact=True))) as other:
        for question in ("What is this?", "圆形是什么颜色？"):
            said = answered(ours, Conversation().with_message("user", question))
            theirs = other.ask(None, question, length=24)
            assert theirs.rstrip("�") == CONTROL.sub("", said).strip().rstrip("�")  # a character that was cut off
            assert len(theirs) > 20


def exported_tiny(version: str, folder: Path) -> tuple[Exported, MiniCPMV]:
    """A random model of a version with the tokenizer of the built-in one."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(BUILT_IN_FOLDER)
    words = {"2.5": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]}
    tokenizer.add_special_tokens({"additional_special_tokens": words.get(version, ["<think>", "</think>"])})
    config = tiny_config(version, vocab_size=1536, initializer_range=0.2, image_size=56)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MiniCPMV(config).eval()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return export_gguf(folder / "model", folder / "out", "tiny", "f32"), model


TEXTS = (
    "What colour is the circle? 12 shapes, 3.14!",
    "图片里有3个红色的圆形，和2024年的表格。",
    "emoji 🙂👩‍👩‍👧, tabs\t\tand\n\n\nlines   with spaces ",
    "<ref>square</ref><box>550 350 900 800</box>",
    "don't you've I'll we're  'quoted' __init__ x=1",
    "Grüße, naïve café, Привет, こんにちは, 안녕",
)


def test_texts_are_the_same_tokens(engine: LocalEngine, asker: Asker) -> None:
    for text in TEXTS:
        theirs = asker.client.post("/tokenize", json={"content": text, "add_special": False}).json()["tokens"]
        assert theirs == engine.processor.tokenizer(text, add_special_tokens=False)["input_ids"], text


def test_only_grounding_tags_are_text(exports: dict[str, Exported], engine: LocalEngine) -> None:
    added = engine.processor.tokenizer.get_added_vocab()
    types = GGUFReader(exports["f32"].model).fields["tokenizer.ggml.token_type"].contents()
    for token, number in added.items():
        assert types[number] == (TokenType.USER_DEFINED if token in GROUNDING_TAGS else TokenType.CONTROL), token
    assert types[engine.processor.tokenizer.convert_tokens_to_ids("a")] == TokenType.NORMAL
    assert types[-1] == TokenType.UNUSED


CONVERSATIONS = (
    ("Hello",),
    ("<picture>\nWhat is this?", "A circle.", "And <picture>?\nSay it.\n\nTwice."),
    ("Compare:\n<picture>\n<picture>\n图里有什么？", "好的。", "Why?"),
)


@pytest.mark.parametrize("module", [chatml, qwen3, llama3])
@pytest.mark.parametrize("said", CONVERSATIONS)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_template_renders_the_published_prompt(module: object, said: tuple[str, ...], system: str | None) -> None:
    """Between the marker that llama.cpp sets for a picture and its place nothing else is added."""
    name = module.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    conversation, messages = Conversation(system=system), []
    if system:
        messages.append({"role": "system", "content": system})
    picture = open_picture(Image.new("RGB", (8, 8)))
    for number, text in enumerate(said):
        role = "assistant" if number % 2 else "user"
        parts = [p for piece in text.split("<picture>") for p in (piece.strip("\n"), picture)][:-1]
        conversation = conversation.with_message(role, *(part for part in parts if part))
        lines = [str(part) if isinstance(part, str) else "<__media_x1__>" for part in parts if part]
        messages.append({"role": role, "content": "\n".join(lines)})
    pieces: list[Piece] = module.render(conversation, [None] * len(conversation.images))  # type: ignore[attr-defined]
    published = as_text([piece for piece in pieces if not isinstance(piece, Slots)], 0)
    template = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).from_string(chat_template(name))  # noqa: S701
    rendered = template.render(messages=messages, add_generation_prompt=True)
    assert rendered.replace("<__media_x1__>", "<image></image>") == published


def test_llama_cpp_renders_the_published_prompt(asker: Asker) -> None:
    address = "data:image/png;base64,AAAA"
    content = [
        {"type": "text", "text": "A"},
        *[{"type": "image_url", "image_url": {"url": address}}] * 2,
        {"type": "text", "text": "B"},
    ]
    said = {"messages": [{"role": "user", "content": content}]}
    prompt = asker.client.post("/apply-template", json=said).json()["prompt"]
    marker = asker.client.get("/props").json()["media_marker"]
    expected = "user\nA\n<image_id>0</image_id>{0}\n<image_id>1</image_id>{0}\nB<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.endswith(expected.format(marker))


@pytest.mark.parametrize("version", ["1.0", "2.0", "4.0", "omnilmm"])
def test_what_llama_cpp_does_not_take_is_refused_with_the_reason(version: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", version)
    with pytest.raises(CheckpointError, match=r"cannot be exported to GGUF: .+"):
        export_gguf(tmp_path / "model", tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()


def test_a_quantised_checkpoint_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path, "2.6")
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match="quantised already"):
        export_gguf(tmp_path, tmp_path / "out", "x")


def test_a_failed_export_leaves_no_file(tmp_path: Path) -> None:
    def fail(name: str, _: torch.Tensor) -> torch.Tensor:
        raise OSError(f"cannot read {name}")

    with pytest.raises(OSError, match="cannot read"):
        export_gguf(BUILT_IN_FOLDER, tmp_path, "x", merge=fail)
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_is_merged_as_the_tensors_are_read(tmp_path: Path) -> None:
    name = "llm.model.norm.weight"
    one = export_gguf(
        BUILT_IN_FOLDER, tmp_path, "x", "f32", merge=lambda said, tensor: tensor * 0 + 7 if said == name else tensor
    )
    found = {tensor.name: tensor.data for tensor in GGUFReader(one.model).tensors}
    assert (found["output_norm.weight"] == 7).all()
    assert not (found["blk.0.attn_norm.weight"] == 7).all()


def test_positions_of_the_published_table_stay_and_others_are_stretched() -> None:
    assert stretched(70, 32) == tuple(range(70))
    rows = stretched(24, 14)
    assert [rows[70 * i // 14] for i in range(14)] == fractional_buckets(14, 24).tolist()
    assert 14 not in inexact_lengths(MiniCPMVConfig.from_pretrained(BUILT_IN_FOLDER))


def test_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "omnilmm.export", "gguf", "--out", str(tmp_path), "--type", "q8_0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"built-in-q8_0.gguf", "mmproj-built-in-f16.gguf"}
    assert "built-in-q8_0.gguf (4 MiB)" in done.stdout and "8, 12, 16" in done.stderr
    with closing(
        Asker(Settings(str(tmp_path / "built-in-q8_0.gguf"), str(tmp_path / "mmproj-built-in-f16.gguf")))
    ) as it:
        circle = Image.open("assets/samples/circle.png")
        assert it.ask(circle, "What colour is the circle?") == "The circle is red."


def test_files_that_do_not_belong_together_and_a_key_that_is_missing(
    exports: dict[str, Exported], tmp_path: Path
) -> None:
    other, _ = exported_tiny("2.6", tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to another model .* 128 numbers, and the model takes 256"):
        LlamaServer(Settings(str(exports["f32"].model), str(other.mmproj)))
    with closing(Asker(Settings(str(exports["f32"].model)))) as alone:
        assert httpx.get(f"{alone.server.url}/v1/models", timeout=60).status_code == 401
        assert alone.server.url.startswith("http://127.0.0.1:")


def test_an_adapter_is_merged_into_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = load_engine()
    assert isinstance(engine, LocalEngine)
    torch.manual_seed(0)
    tuned = adapters.prepare(engine.model, Tuning(rank=2, alpha=4), engine.card)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=5.0)
    adapters.save(tuned, tmp_path / "mine")
    assert main(["gguf", "--adapter", str(tmp_path / "mine"), "--out", str(tmp_path / "out"), "--type", "f32"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine-f32.gguf", "mmproj-mine-f32.gguf"}
    assert "mine-f32.gguf" in capsys.readouterr().out
    merged = {one.name: one.data for one in GGUFReader(tmp_path / "out" / "mine-f32.gguf").tensors}
    plain = engine.model.llm.model.layers[0].self_attn.q_proj
    there = torch.tensor(merged["blk.0.attn_q.weight"])
    lora_free = getattr(plain, "base_layer", plain).weight.detach().float()
    assert not torch.equal(there, lora_free) and there.shape == lora_free.shape
