"""The model catalog: `configs/<name>.yaml` -> `ModelCard`. A new checkpoint of a known family takes one more file.

`model_lookup` finds the card of a model that a user names, also of one that is not in the catalog.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from omnilmm.adapter_files import WITH
from omnilmm.errors import CheckpointError, InputError
from omnilmm.sentences import Language
from omnilmm.versions import AS_PICTURES, ON_SECONDS, VERSIONS, Version, VideoSampling

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

    @property
    def version(self) -> Version | None:
        """Return the version of MiniCPM-V that the model is; None for other families."""
        return VERSIONS.get(self.family.removeprefix("minicpm-v-"))

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
        sampling = (self.version and self.version.video) or (ON_SECONDS if self.family == "library" else AS_PICTURES)
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


@lru_cache
def cards() -> dict[str, ModelCard]:
    """Return all known models by name, ordered by size.

    Raises:
        CheckpointError: A YAML file is not a valid card; all its problems are listed.
    """
    found = [_read(path) for path in CONFIGS.glob("*.yaml")]
    return {card.name: card for card in sorted(found, key=lambda card: (card.parameters or math.inf, card.name))}


def _read(path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) | {"name": path.stem})
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        raise CheckpointError("card_unreadable", file=path.name, reason=error) from error
