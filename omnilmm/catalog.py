"""The model catalog: `configs/<name>.yaml` -> `ModelCard`. A new checkpoint of a known family takes one more file.

A model can also be named by its hub id or by a local folder; a folder is recognised by its `config.json`, never by its
name.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from omnilmm.adapter_files import WITH, is_for, read_adapter
from omnilmm.checkpoint_json import check_numbers, read_json
from omnilmm.errors import CheckpointError, InputError, ModelNotFoundError
from omnilmm.formats import WEIGHTS, check_adapter, check_files, check_pointers
from omnilmm.gguf_header import read_header
from omnilmm.hub_cache import cached_name, checkpoint_folder
from omnilmm.sentences import Language, Sentence
from omnilmm.versions import AS_PICTURES, OMNI_TYPE, ON_SECONDS, VERSIONS, VideoSampling, omni_row, version_of

PACKAGE = Path(__file__).parent
# The folder of `configs` and `assets`: the top of the repository, or the package itself once it is installed.
ROOT = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent
CONFIGS = ROOT / "configs"
BUILT_IN = "built-in"
QUESTION_TOKENS = 256  # reserved in a prompt, besides the frames of a video
FRAME_TOKENS = 68  # per frame or group of frames: 64 features and the special tokens around them
FINER_FRAME_TOKENS = 264  # with finer detail


FAMILIES = {f"minicpm-v-{key}": version.title for key, version in VERSIONS.items()} | {
    "omnilmm": "OmniLMM-12B",
    "library": "of transformers",
    "remote": "on a server",
    "gguf": "in llama.cpp",
}
Dtype = Literal["fp32", "bf16", "fp16", "int8", "int4"]


PREFERENCE: tuple[Dtype, ...] = ("bf16", "fp16", "int8", "int4")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplingDefaults(_Strict):
    """Default options for sampling."""

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 100
    repetition_penalty: float = 1.05


class BeamDefaults(_Strict):
    """Default options for beam search."""

    beams: int = 3
    repetition_penalty: float = 1.2
    length_penalty: float = 1.0


class Quality(_Strict):
    """The quality of a model as a published score.

    Attributes:
        figure: mean score over the OpenCompass benchmarks, 0 to 100, as published by the model's makers. Year and set
            of benchmarks vary, so it is only good for ranking models.
        source: where the score is published, and any caveats.
    """

    figure: float = Field(ge=0, le=100)
    source: str


class Decoder(_Strict):
    """Size of the decoder, whose weights are read for every generated token and so determine the decoding speed.

    Attributes:
        depth: number of decoder layers.
        layers: parameters of all decoder layers together; int8 and int4 quantise these.
        head: parameters of the LM head, which stays in half precision.
    """

    depth: int = Field(gt=0)
    layers: int = Field(gt=0)
    head: int = Field(gt=0)


class Quantisation(_Strict):
    """One of the files of a model in GGUF.

    Attributes:
        download_gib: size of the language model and the mmproj file together.
        memory_gib: memory for a conversation about a large picture.
    """

    download_gib: float = Field(gt=0)
    memory_gib: float = Field(gt=0)


class Words(_Strict):
    """A text in both languages of the pages."""

    en: str = ""
    zh: str = ""

    def __str__(self) -> str:
        return self.en

    def in_language(self, language: Language) -> str:
        """Return the text in the given language."""
        return self.zh if language == "zh" else self.en


class ModelCard(_Strict):
    """Metadata of a model, known before any weights are loaded.

    Attributes:
        name: name that users type.
        title: name that is displayed.
        source: hub id, or folder (relative to the repository for models that it ships).
        adapter: folder of a LoRA adapter to add; `name` and `title` then name both.
        revision: commit, tag or branch of the hub to fetch; None for the newest. With an adapter it is that of the
            adapter, if it names one of this very repository.
        family: architecture and template, one of `FAMILIES`; "library" for models implemented in transformers.
        parameters: number of parameters; None for a folder, until it is loaded.
        stored: dtype of the checkpoint files.
        download_gib: size of the checkpoint files.
        memory_gib: memory for a long conversation about a large picture, per dtype the model can be loaded in.
        quantisations: of a model in GGUF, by name, the best first.
        decoder: size of the decoder; None if it is not known.
        quality: published score; None where there is no comparable one.
        succeeds: name of the model that this one is based on or improves on, according to its makers; without a score
            of its own it ranks like that one. See `engine.choosing` for how models are ranked.
        released: year and month, "2024-08"; None if not known.
        languages: language codes.
        context: context length in tokens, prompt and answer together.
        max_new_tokens: default length limit of an answer.
        system_prompt, several_pictures, boxes, video: whether the model supports each of these.
        pictures: whether it takes pictures at all.
        beam_search: whether it can search with beams where it runs.
        without_effect: options without effect where it runs, as "mode.option"; the pages do not show them.
        are_slices_assumed: whether slices are shown as the published code makes them, while a server may differ.
        is_context_known: whether `context` is that of the model; a server may not tell it.
        thinking: whether the model thinks before it answers by default; None where its template has no switch for it
            or the default is known only after loading.
        max_slices: default maximum number of slices per picture; None where it cannot be chosen.
        finer_detail: whether slices can be given four times as many tokens.
        presets: the questions of `chat.py --ocr` and `--caption`, where the model needs words of its own.
        drawings_only: the model knows simple drawings only, no photos; the pages say so when it is shown a photo.
        licence: licence of the weights.
        licence_url: address of the licence text.
        statement: its makers' statement about generated content.
        note: what a user should know, e.g. what has not been verified.
    """

    name: str
    title: str
    source: str
    adapter: str | None = None
    revision: str | None = None
    family: str
    parameters: int | None = Field(gt=0)
    stored: Dtype
    download_gib: float = Field(ge=0)
    memory_gib: dict[Dtype, float]
    quantisations: dict[str, Quantisation] = {}
    decoder: Decoder | None = None
    quality: Quality | None = None
    succeeds: str | None = None
    released: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}$")
    languages: tuple[str, ...]
    context: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    system_prompt: bool
    several_pictures: bool
    boxes: bool
    thinking: bool | None = None
    max_slices: int | None = Field(default=None, gt=0)
    finer_detail: bool = False
    video: bool = False
    presets: dict[Literal["ocr", "caption"], str] = {}
    drawings_only: bool = False
    pictures: bool = True
    beam_search: bool = True
    without_effect: tuple[str, ...] = ()
    is_context_known: bool = True
    are_slices_assumed: bool = False
    licence: str
    licence_url: str = ""
    statement: Words = Words()
    note: Words
    sampling: SamplingDefaults = SamplingDefaults()
    beam: BeamDefaults = BeamDefaults()

    @field_validator("statement", "note", mode="before")
    @classmethod
    def _is_of_one_language(cls, words: Any) -> Any:
        """Use a plain string, as in a user's own card, for both languages."""
        return {"en": words, "zh": words} if isinstance(words, str) else words

    @field_validator("family")
    @classmethod
    def _is_known(cls, family: str) -> str:
        if family not in FAMILIES:
            raise ValueError(f"expected one of {', '.join(FAMILIES)}")
        return family

    def best_dtype(self, free_gib: float) -> str | None:
        """Return the first dtype of `PREFERENCE` that fits into `free_gib`; None if none does or no size is known."""
        fitting = [dtype for dtype in PREFERENCE if self.memory_gib.get(dtype, math.inf) <= free_gib]
        return fitting[0] if fitting else None

    def frame_tokens(self, finer_detail: bool | None = None) -> int:
        """Return about how many tokens a frame, or a group of frames, takes."""
        return FINER_FRAME_TOKENS if finer_detail else FRAME_TOKENS

    def video_sampling(self, finer_detail: bool | None = None) -> VideoSampling | None:
        """Return how frames of a video are sampled, limited by the context length; None if the model takes no videos.

        Args:
            finer_detail: whether each frame gets four times as many tokens.
        """
        if not self.video:
            return None
        version = VERSIONS.get(self.family.removeprefix("minicpm-v-"))
        sampling = (version and version.video) or (ON_SECONDS if self.family == "library" else AS_PICTURES)
        room = (self.context - self.max_new_tokens - QUESTION_TOKENS) // self.frame_tokens(finer_detail)
        return replace(sampling, most=max(min(sampling.most, room), 1))

    def require_video(self, finer_detail: bool | None = None) -> VideoSampling:
        """Return how frames of a video are sampled; arguments as for `video_sampling`.

        Raises:
            InputError: The model takes no videos; the message lists models that do.
        """
        sampling = self.video_sampling(finer_detail)
        if sampling is None:
            able = [card.title for card in cards().values() if card.video]
            raise InputError("no_videos", title=self.title, able=able)
        return sampling

    @property
    def base_name(self) -> str:
        """The name without that of the adapter."""
        return self.name.removesuffix(f"{WITH}{self.adapter}")

    def revision_on(self, hub: str) -> str | None:
        """Return the revision to fetch from a hub: an adapter names a commit of Hugging Face's, which no other has."""
        return None if self.adapter and hub != "huggingface" else self.revision

    @property
    def aliases(self) -> set[str]:
        """Return its other names in lower case: its title with hyphens, and its repository without the owner.

        "MiniCPM-V", the repository of 1.0, is none: it says no version. Neither is a title with a remark, "(GGUF)".
        """
        names = self.title.lower().replace(" ", "-"), self.source.rpartition("/")[2].lower()
        return {name for name in names if name != "minicpm-v" and "(" not in name}

    @property
    def location(self) -> str:
        """The location to load from: an absolute path for a model shipped with this program, else `source`."""
        return str(ROOT / self.source) if self.is_shipped else self.source

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with this program."""
        return (ROOT / self.source).is_dir() and not Path(self.source).is_absolute()


GGUF_CONTEXT = 8192  # of a model of which nothing is known before it is downloaded
CHOOSING = ("minicpmv4_6", "minicpmv4_7")  # model types in transformers with a choice of slices, and with videos
NOT_KNOWN = Words(en="Not in the catalog.", zh="不在模型目录中。")
WITHOUT_SOUND = Words(
    en="Not in the catalog. It sees and answers in text; its parts for sound and speech are left out here.",
    zh="不在模型目录中。可看图并用文字回答；它的声音和语音部分在这里不加载。",
)


@lru_cache
def cards() -> dict[str, ModelCard]:
    """Return all known models by name, ordered by size.

    Raises:
        CheckpointError: A YAML file is not a valid card; all its problems are listed.
    """
    found = [_read(path) for path in CONFIGS.glob("*.yaml")]
    return {card.name: card for card in sorted(found, key=lambda card: (card.parameters or math.inf, card.name))}


def find(model: str) -> ModelCard:
    """Return the card of a model given by name, hub id or local folder; "MODEL + FOLDER" adds the adapter there.

    Aliases are looked up after folders: a clone of a repository has the repository's name.

    Raises:
        ModelNotFoundError: There is no such model; the message suggests similar names.
        CheckpointError: The path is a file, or a folder without a supported checkpoint; or the adapter is for another
            model.
    """
    base, plus, adapter = model.rpartition(WITH)
    if plus and base and _folder(model) is None:
        return _with_adapter(find(base), adapter)
    for card in cards().values():
        if model.lower() in (card.name.lower(), card.source.lower()):
            return card
    folder = _folder(model)
    if folder is not None:
        place = checkpoint_folder(folder)
        ggufs = [] if any((place / name).is_file() for name in WEIGHTS) else sorted(place.glob("*.[gG][gG][uU][fF]"))
        return _card_of_gguf(model, ggufs) if ggufs else _card_of_folder(folder, place)
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model):
        return _card_of_ggufs(model) if "gguf" in model.lower() else _unknown(model, model, {}, "library")
    if _is_file(model):
        if model.lower().endswith(".gguf"):
            return _card_of_gguf(model, [Path(model).expanduser()])
        check_files(model, [model])
        raise CheckpointError("file_instead_of_folder", name=model)
    for card in cards().values():
        if model.lower() in card.aliases:
            return card
    near = difflib.get_close_matches(model.lower(), cards(), n=3, cutoff=0.4)
    if near:
        raise ModelNotFoundError("no_such_model_but_near", model=model, near=near, known=list(cards()))
    raise ModelNotFoundError("no_such_model", model=model, known=list(cards()))


def _with_adapter(card: ModelCard, adapter: str) -> ModelCard:
    if card.adapter is not None:
        raise CheckpointError("one_adapter_only", name=adapter, first=card.adapter)
    files = read_adapter(adapter)
    names = (card.name, card.source, card.location)
    if not is_for(files, *names):
        raise CheckpointError("adapter_of_another_model", name=adapter, base=files.base, title=card.title)
    is_of_its_repository = files.base is not None and files.base.lower() == card.source.lower()
    return card.model_copy(
        update={
            "revision": (files.revision if is_of_its_repository else None) or card.revision,
            "name": f"{card.name}{WITH}{adapter}",
            "title": f"{card.title}{WITH}{files.title}",
            "adapter": adapter,
            "drawings_only": False,  # it may have learnt others
        }
    )


def family_of(config: Mapping[str, Any], name: str) -> str:
    """Return the family of a checkpoint, i.e. its architecture and template, from its `config.json`.

    Args:
        config: content of the file.
        name: name of the checkpoint in messages: a hub id or a path.

    Raises:
        CheckpointError: The config names no architecture, or a version of MiniCPM-V or MiniCPM-o that is not supported.
    """
    model_type = config.get("model_type") if isinstance(config, Mapping) else None
    if not isinstance(model_type, str):
        raise CheckpointError("no_model_type", name=name, model_type=model_type)
    if model_type == "omnilmm":
        return "omnilmm"
    if model_type not in ("minicpmv", OMNI_TYPE):
        return "library"
    if model_type == OMNI_TYPE and omni_row(config) is None:
        raise CheckpointError("of_another_program", name=name, what=Sentence("is_minicpm_o"))
    version = version_of(config)
    if version in VERSIONS:
        return f"minicpm-v-{version}"
    raise CheckpointError("unsupported_version", name=name, version=version, supported=list(VERSIONS))


def _card_of_gguf(model: str, files: list[Path]) -> ModelCard:
    """Return the card of a model in GGUF on this disk, from the header of one of its language models.

    Raises:
        CheckpointError: A file is damaged.
    """
    headers = [header for header in map(read_header, files) if not header.is_mmproj]
    known = headers[0] if headers else None
    place = Path(model).expanduser().resolve()
    name = (known.values.get("general.name") if known else None) or place.stem
    context = int((known.of_architecture("context_length") if known else None) or GGUF_CONTEXT)
    return _card_of_ggufs(str(place)).model_copy(
        update={
            "name": model,
            "title": f"{name} (GGUF)",
            "context": context,
            "max_new_tokens": max(min(1024, context // 2), 1),
            "parameters": known.parameters if known and len(headers) == len(files) == 1 else None,
            "boxes": bool(known and known.has_boxes),
            "thinking": False
            if known and "enable_thinking" in str(known.values.get("tokenizer.chat_template"))
            else None,
        }
    )


def _card_of_ggufs(source: str) -> ModelCard:
    """Return the card of a model in GGUF that is not in the catalog, before anything is known of it."""
    return ModelCard(
        name=source,
        title=source,
        source=source,
        family="gguf",
        parameters=None,
        stored="bf16",
        download_gib=0.0,
        memory_gib={},
        languages=("en", "zh"),
        context=GGUF_CONTEXT,
        max_new_tokens=1024,
        system_prompt=True,
        several_pictures=True,
        boxes=False,
        licence="see where you have it from",
        note=NOT_KNOWN,
    )


def _folder(model: str) -> Path | None:
    """Return the folder of that name; None if there is none or the name is not a valid path."""
    try:
        folder = Path(model).expanduser()
        return folder if model and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _is_file(model: str) -> bool:
    try:
        return Path(model).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def _card_of_folder(given: Path, folder: Path) -> ModelCard:
    """Return the card of a local folder, named as `given`; `folder` holds the checkpoint files."""
    path = folder / "config.json"
    check_pointers(str(given), folder)
    check_adapter(str(given), folder)
    try:
        config = read_json(path)
    except FileNotFoundError:
        check_files(str(given), (file.name for file in folder.iterdir()))
        raise CheckpointError("no_config", name=given) from None
    family = family_of(config, str(given))
    check_numbers(str(path), config)
    folder = folder.resolve()
    card = _unknown(str(folder), cached_name(folder) or folder.name, config, family)
    return card.model_copy(update={"name": str(given)})


def _unknown(source: str, name: str, config: Mapping[str, Any], family: str) -> ModelCard:
    """Return the card of a model outside the catalog: the abilities of its family, without size and licence."""
    # The largest card of a family is the published model; int4 cards repeat another one.
    like = next((c for c in reversed(cards().values()) if c.family == family and c.stored != "int4"), None)
    if like is None:
        raise CheckpointError("no_card_of_family", folder=CONFIGS, family=family)
    longest = config.get("max_position_embeddings")
    context = min(like.context, longest if isinstance(longest, int) else like.context)
    length = min(like.max_new_tokens, context // 2)
    declared = config.get("quantization_config")
    quantised = declared if isinstance(declared, Mapping) else {}
    stored = "int4" if quantised.get("load_in_4bit") else "int8" if quantised.get("load_in_8bit") else like.stored
    unknown: dict[str, Any] = {
        "parameters": None,
        "stored": stored,
        "download_gib": 0.0,
        "memory_gib": {},
        "decoder": None,
        "quality": None,
        "succeeds": None,
        "released": None,
        "revision": None,
        "statement": Words(),
    }
    if family == "library" and config.get("model_type") not in CHOOSING:
        unknown |= {"max_slices": None, "finer_detail": False, "video": False}
    omni = omni_row(config) if config.get("model_type") == OMNI_TYPE else None
    title = name if family == "library" else f"{name} ({omni.omni if omni else FAMILIES[family]})"
    return like.model_copy(
        update=unknown
        | {"name": source, "title": title, "source": source, "context": context, "max_new_tokens": length}
        | {"licence": "see where you have it from", "licence_url": "", "note": WITHOUT_SOUND if omni else NOT_KNOWN}
    )


def _read(path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) | {"name": path.stem})
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        raise CheckpointError("card_unreadable", file=path.name, reason=error) from error
