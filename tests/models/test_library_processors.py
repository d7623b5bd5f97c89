"""What transformers brings for a checkpoint: known or not, with pictures or not, with torchvision or without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from PIL import Image
from transformers import AutoProcessor, LlavaProcessor, ProcessorMixin, Qwen2VLProcessor
from transformers.utils import is_torchvision_available

from omnilmm.errors import CheckpointError
from omnilmm.models.library import VideoProcessorStub, check_takes_pictures, load_processor, needed_transformers
from omnilmm.models.processor import MiniCPMVProcessor
from tests.models.tiny import save_tiny
from tests.models.tiny_library import MODELS, save_library_model

without_torchvision = pytest.mark.skipif(is_torchvision_available(), reason="with torchvision nothing is missing")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {"model_type": "of-tomorrow", "transformers_version": "99.2.0.dev0"},
            f"This checkpoint needs transformers ≥ 99.2.0; {transformers.__version__} is installed: "
            "pip install -U transformers.",
        ),
        ({"model_type": "of-tomorrow", "transformers_version": "5.0.0"}, None),
        ({"model_type": "of-tomorrow", "transformers_version": transformers.__version__}, None),
        ({"model_type": "of-tomorrow", "transformers_version": "not a version"}, None),
        ({"model_type": "of-tomorrow"}, None),
        ({"transformers_version": "99.2.0"}, "This checkpoint needs transformers ≥ 99.2.0"),
        ({"model_type": "qwen2_vl", "transformers_version": "99.2.0"}, None),  # written by a newer one, known here
        ({"model_type": "minicpmv", "transformers_version": "99.2.0"}, None),
    ],
)
def test_an_architecture_of_tomorrow_says_what_to_install(config: dict[str, str], says: str | None) -> None:
    said = needed_transformers(config)
    assert said == says if says is None else str(said).startswith(says)


@pytest.mark.parametrize(
    "model_type", ["minicpmv4_6", "minicpmv4_7", "qwen2_vl", "smolvlm", "llava", "minicpmv", "omnilmm"]
)
def test_models_of_pictures_and_text_pass(model_type: str) -> None:
    check_takes_pictures("it", {"model_type": model_type})


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "llama"}, r"text alone \(llama\), which cannot be asked about pictures"),
        ({"model_type": "siglip"}, r"\(siglip\) cannot be asked about pictures"),
        ({"model_type": "of-tomorrow", "transformers_version": "99.2.0"}, "'of-tomorrow' is not known.*≥ 99.2.0"),
        (
            {"model_type": "of-somebody", "transformers_version": "4.40.0"},
            "'of-somebody' is not known.*without their own",
        ),
        ({}, "None is not known"),
    ],
)
def test_others_are_refused_by_name(config: dict[str, str], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        check_takes_pictures("it", config)


@pytest.mark.parametrize("name", MODELS)
def test_processors_load_and_prepare_pictures(name: str, tmp_path: Path) -> None:
    processor = load_processor(save_library_model(tmp_path, name))
    assert isinstance(processor, ProcessorMixin) and processor.chat_template
    place = processor.image_token
    inputs = processor(images=[Image.new("RGB", (60, 40))], text=[f"{place} ?"], return_tensors="pt")
    assert inputs["pixel_values"].numel() and (inputs["input_ids"] == processor.image_token_id).sum() > 1


def test_our_own_processors_load_the_same_way(tmp_path: Path) -> None:
    assert isinstance(load_processor(save_tiny(tmp_path)), MiniCPMVProcessor)


@without_torchvision
def test_the_library_alone_needs_torchvision_for_videos_that_nobody_shows(tmp_path: Path) -> None:
    """Once this fails, `VideoProcessorStub` and `FrameProcessor` can go."""
    folder = save_library_model(tmp_path, "minicpm-v-4.6")
    with pytest.raises(ImportError, match="Torchvision"):
        AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


@without_torchvision
def test_settings_reach_the_processor_and_its_parts(tmp_path: Path) -> None:
    folder = save_library_model(tmp_path, "minicpm-v-4.6")
    path = folder / "preprocessor_config.json"
    changed = json.loads(path.read_text()) | {"slice_mode": False, "downsample_mode": "4x", "use_image_id": False}
    path.write_text(json.dumps(changed))
    processor = load_processor(folder)
    assert not processor.slice_mode and not processor.default_use_image_id
    assert processor.image_token_divisor == processor.video_token_divisor == 4
    assert processor.image_processor.scale_resolution == 112
    assert processor.video_processor.slice_mode is False and processor.video_processor.max_num_frames == 128
    assert processor.tokenizer.slice_start_token_id == processor.tokenizer.get_vocab()["<slice>"]


@without_torchvision
def test_a_model_that_is_shown_no_videos_here_gets_a_stub_for_them(tmp_path: Path) -> None:
    processor = load_processor(save_library_model(tmp_path, "qwen2-vl"))
    assert isinstance(processor.video_processor, VideoProcessorStub) and processor.video_processor.num_frames is None


@without_torchvision
@pytest.mark.parametrize("file", ["processor_config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_the_class_that_a_checkpoint_names_is_taken(tmp_path: Path, file: str) -> None:
    """Pixtral's checkpoints are of the architecture llava, but have a processor of their own."""
    folder = save_library_model(tmp_path, "minicpm-v-4.6")
    path = folder / file
    found = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(found | {"processor_class": "Qwen2VLProcessor"}))
    assert isinstance(load_processor(folder), Qwen2VLProcessor)


@without_torchvision
@pytest.mark.parametrize("declared", ["OfTomorrowProcessor", "AutoConfig"])
def test_a_name_that_is_no_processor_is_an_error_that_can_be_read(tmp_path: Path, declared: str) -> None:
    folder = save_library_model(tmp_path, "minicpm-v-4.6")
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": declared}))
    with pytest.raises((CheckpointError, ValueError)):
        load_processor(folder)


@without_torchvision
def test_a_processor_without_a_part_for_videos_is_the_librarys_own(tmp_path: Path) -> None:
    assert type(load_processor(save_library_model(tmp_path, "llava"))) is LlavaProcessor


def test_a_checkpoint_without_pictures_settings_is_refused(tmp_path: Path) -> None:
    folder = save_library_model(tmp_path, "llava")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"Nothing in .* says how pictures are prepared"):
        load_processor(folder)


@without_torchvision
@pytest.mark.parametrize(
    ("declared", "says"),
    [("PixtralProcessor", "Torchvision.*pip install torchvision"), ("SmolVLMProcessor", "num2words")],
)
def test_a_missing_package_is_one_line(tmp_path: Path, declared: str, says: str) -> None:
    folder = save_library_model(tmp_path, "minicpm-v-4.6")
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": declared}))
    with pytest.raises(CheckpointError, match=says) as error:
        load_processor(folder)
    assert "\n" not in str(error.value)
