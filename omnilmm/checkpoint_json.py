"""Read the JSON files of a checkpoint as untrusted input: bounded in size, nesting depth and numbers.

transformers builds modules from the numbers in `config.json`, so an absurd one (a billion layers) would take forever or
exhaust memory. Every number of a known kind is therefore checked against a bound well above the largest models.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnilmm.errors import CheckpointError
from omnilmm.sentences import Sentence

MOST_BYTES = 32 * 2**20  # the weight index of the largest models has 10 MB
MOST_DEPTH = 40
MOST_NUMBER = 10**12  # for any key
# Sizes that every model has: key pattern, minimum and maximum, all integers. Published models stay far below.
SIZES = [
    (re.compile(pattern), least, most)
    for pattern, least, most in (
        (r"num_hidden_layers|n_layers?", 0, 1000),
        (r"num_attention_heads|num_heads|n_heads?|num_key_value_heads", 1, 4096),
        (r"hidden_size|intermediate_size|d_model|n_embd", 1, 2**20),
        (r"vocab_size", 1, 2**24),
        (r"query_num|num_query", 1, 2**14),
        (r"max_position_embeddings", 1, 2**30),
        (r"patch_size|max_slice_nums|vision_batch_size", 1, 4096),
        (r"image_size|scale_resolution", 1, 2**15),
    )
]
# Sizes of optional parts: key pattern and maximum. Some of these keys use negative values with a special meaning, and
# some values are not numbers.
PARTS = [
    (re.compile(pattern), most)
    for pattern, most in (
        (r".*_layers|depths?", 1000),
        (r".*_heads|.*experts(_.*)?", 4096),
        (r".*_size|.*_dim|height|width", 2**20),
        (r".*", MOST_NUMBER),
    )
]
# Files beside `config.json` that configure the preprocessing of pictures.
PICTURE_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def read_json(path: Path) -> Any:
    """Read a JSON file of a checkpoint.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is too large, nested too deeply, or not valid JSON; the message names it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise CheckpointError(
                "json_unreadable", path=path, reason=Sentence("json_too_large", most=MOST_BYTES // 2**20)
            )
        found = json.loads(content.decode("utf-8-sig"))
        if _depth(found) > MOST_DEPTH:
            raise RecursionError
    except FileNotFoundError:
        raise
    except RecursionError as error:
        raise CheckpointError("json_unreadable", path=path, reason=Sentence("json_nested")) from error
    except (OSError, ValueError) as error:
        raise CheckpointError("json_unreadable", path=path, reason=error) from error
    return found


def check_numbers(name: str, values: Mapping[str, Any]) -> None:
    """Refuse a configuration with a number that no model has, at any depth.

    Args:
        name: name of the file in messages.
        values: parsed JSON object.

    Raises:
        CheckpointError: A number is out of range; the message names the first one and the allowed range.
    """
    for key, value in _numbers(values):
        least, most = next(((low, high) for kind, low, high in SIZES if kind.fullmatch(key)), (None, 0))
        if least is None:
            least, most = -MOST_NUMBER, next(most for kind, most in PARTS if kind.fullmatch(key))
            is_meant = not isinstance(value, int) or least <= value <= most
        else:
            is_meant = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        if not is_meant:
            shown = reprlib.repr(value)
            if least >= 0:
                raise CheckpointError("absurd_size", path=name, key=key, value=shown, least=least, most=most)
            raise CheckpointError("absurd_number", path=name, key=key, value=shown, most=most)


def check_settings(folder: Path) -> None:
    """Check the numbers in `config.json` and in the preprocessor configurations, where these files exist.

    Raises:
        CheckpointError: As for `read_json` and `check_numbers`.
    """
    for file in ("config.json", *PICTURE_FILES):
        if (path := folder / file).is_file() and isinstance(found := read_json(path), dict):
            check_numbers(str(path), found)


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield keys and scalar values of every depth, list elements under the key of their list; skip None."""
    waiting = list(values.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.items()
        elif isinstance(value, list | tuple):
            waiting += ((key, element) for element in value)
        elif value is not None:
            yield str(key), value


def _depth(found: Any) -> int:
    depth, level = 0, [found]
    while level:
        depth += 1
        containers = [value for value in level if isinstance(value, dict | list)]
        level = [
            inner
            for value in containers
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return depth
