"""The JSON files of a checkpoint, read as a stranger's: small, not nested deeply, with numbers that a model can have.

What the library makes of a `config.json` is one module after another, so a number that nobody means (a billion layers)
takes for ever or all memory. So every number of a known kind is compared with what the largest models have, and some.
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

MOST_BYTES = 32 * 2**20  # the index of the largest models has 10 MB
MOST_DEPTH = 40
MOST_NUMBER = 10**12  # of any kind
# Sizes that every model has, by the name of the key: whole numbers, the least and the most. Published ones stay far
# below.
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
# Of parts that some models have, the most; below nothing some mean something of their own, and others are no numbers.
PARTS = [
    (re.compile(pattern), most)
    for pattern, most in (
        (r".*_layers|depths?", 1000),
        (r".*_heads|.*experts(_.*)?", 4096),
        (r".*_size|.*_dim|height|width", 2**20),
        (r".*", MOST_NUMBER),
    )
]
# Files beside `config.json` of which pictures are made ready.
PICTURE_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def read_json(path: Path) -> Any:
    """What a JSON file of a checkpoint holds.

    Raises:
        FileNotFoundError: It is not there.
        CheckpointError: It is too large, nested too deeply, or no JSON; the message names it.
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
    """Refuse numbers that no model has, in a configuration and all that lies within it.

    Args:
        name: what to call the file, in messages.
        values: of its JSON.

    Raises:
        CheckpointError: The first of them, with what can be meant.
    """
    for key, value in _numbers(values):
        least, most = next(((low, high) for kind, low, high in SIZES if kind.fullmatch(key)), (None, 0))
        if least is None:
            least, most = -MOST_NUMBER, next(most for kind, most in PARTS if kind.fullmatch(key))
            is_meant = not isinstance(value, int) or least <= value <= most
        else:
            is_meant = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        if not is_meant:
            said = reprlib.repr(value)
            if least >= 0:
                raise CheckpointError("absurd_size", path=name, key=key, value=said, least=least, most=most)
            raise CheckpointError("absurd_number", path=name, key=key, value=said, most=most)


def check_settings(folder: Path) -> None:
    """The numbers of `config.json` and of how pictures are made ready, as far as these files are there.

    Raises:
        CheckpointError: As `read_json` and `check_numbers`.
    """
    for file in ("config.json", *PICTURE_FILES):
        if (path := folder / file).is_file() and isinstance(found := read_json(path), dict):
            check_numbers(str(path), found)


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and what stands there, of every depth; a list's elements under the key of the list, without nothings."""
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
