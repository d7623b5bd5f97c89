"""Which model a name means: one of the catalog, a hub id, a local folder or file, each also with an adapter.

A folder is recognised by its `config.json`, never by its name. The card of a model that is not in the catalog is that
of its family, without what is only true of the published model.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnilmm.adapter_files import WITH, is_for, read_adapter
from omnilmm.catalog import CONFIGS, FAMILIES, ModelCard, Words, cards
from omnilmm.checkpoint_json import check_numbers, read_json
from omnilmm.errors import CheckpointError, ModelNotFoundError
from omnilmm.formats import WEIGHTS, check_adapter, check_files, check_pointers
from omnilmm.gguf_header import read_header
from omnilmm.hub_cache import cached_name, checkpoint_folder
from omnilmm.sentences import Sentence
from omnilmm.versions import OMNI_TYPE, VERSIONS, omni_row, version_of

GGUF_CONTEXT = 8192  # of a model of which nothing is known before it is downloaded
CHOOSING = ("minicpmv4_6", "minicpmv4_7")  # model types in transformers with a choice of slices, and with videos
NOT_KNOWN = Words(en="Not in the catalog.", zh="不在模型目录中。")
WITHOUT_SOUND = Words(
    en="Not in the catalog. It sees and answers in text; its parts for sound and speech are left out here.",
    zh="不在模型目录中。可看图并用文字回答；它的声音和语音部分在这里不加载。",
)


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
