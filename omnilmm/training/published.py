"""Flags of the published fine-tuning scripts (`finetune_lora.sh`, `finetune_ds.sh`), as they are written there.

Flags with another name of the same meaning are aliases in `flags`; here are those of another form, or without a
counterpart. None is dropped without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from omnilmm.errors import OptionsError
from omnilmm.sentences import Sentence

logger = logging.getLogger(__name__)
SWITCHES = {"--tune_vision": "tune-vision", "--gradient_checkpointing": "checkpointing"}
METHOD = ("--use_lora", "--q_lora", "--tune_llm")
# What is decided here by the device, the model or the other flags, and how transformers' Trainer logs.
WITHOUT_EFFECT = (
    *("--bf16", "--bf16_full_eval", "--fp16", "--fp16_full_eval", "--tf32", "--llm_type", "--optim", "--local_rank"),
    *("--do_train", "--do_eval", "--evaluation_strategy", "--eval_strategy", "--eval_steps"),
    *("--per_device_eval_batch_size", "--prediction_loss_only", "--remove_unused_columns", "--label_names"),
    *("--logging_dir", "--logging_strategy", "--logging_steps", "--report_to"),
    *("--save_strategy", "--save_total_limit"),
)
# What would give other weights.
NOT_OFFERED = (
    *("--max_steps", "--weight_decay", "--adam_beta1", "--adam_beta2", "--lr_scheduler_type", "--warmup_steps"),
    *("--lora_target_modules", "--lora_bias", "--lora_layers_to_transform", "--lora_modules_to_save"),
)
AS_HERE = {"--lr_scheduler_type": ("cosine",), "--weight_decay": ("0", "0.0"), "--lora_bias": ("none",)}
WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def translated(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with flags of `flags` in the place of published ones; warns of those without effect.

    Raises:
        OptionsError: A flag has no counterpart, its value is no truth value, or two contradict one another.
    """
    if not arguments or arguments[0] != "train":
        return list(arguments)
    kept: list[str] = []
    switches: dict[str, bool] = {}
    unused: list[str] = []
    refused: list[str] = []
    for flag, values in _groups(arguments):
        if flag in METHOD:
            switches[flag] = _truth(flag, values)
        elif flag in SWITCHES:
            kept += [f"--{SWITCHES[flag]}" if _truth(flag, values) else f"--no-{SWITCHES[flag]}", *values[1:]]
        elif flag in WITHOUT_EFFECT or (flag in NOT_OFFERED and values and values[0] in AS_HERE.get(flag, ())):
            unused.append(flag)
        elif flag in NOT_OFFERED:
            refused.append(flag)
        else:
            kept += [flag, *values]
    if refused:
        raise OptionsError("published_flags_not_offered", flags=refused)
    if unused:
        logger.warning("%s", Sentence("published_flags_without_effect", flags=unused))
    return [kept[0], *_method(switches), *kept[1:]]  # a --method that was given goes before


def _groups(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield every flag with the values after it, first the command; "--flag=value" of a published one is split."""
    parts: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        is_ours = flag in METHOD or flag in SWITCHES or flag in WITHOUT_EFFECT or flag in NOT_OFFERED
        parts += [flag, value] if equals and is_ours else [argument]
    starts = [number for number, part in enumerate(parts) if not number or part.startswith("--")]
    for start, end in zip(starts, [*starts[1:], len(parts)], strict=True):
        yield parts[start], parts[start + 1 : end]


def _truth(flag: str, values: Sequence[str]) -> bool:
    if not values:
        return True
    if values[0].lower() not in WORDS:
        raise OptionsError("flag_true_or_false", flag=flag, got=values[0])
    return WORDS[values[0].lower()]


def _method(switches: dict[str, bool]) -> list[str]:
    """Return `--method` for the switches of LoRA and the language model."""
    if not switches:
        return []
    is_lora = switches.get("--use_lora", False) or switches.get("--q_lora", False)
    if is_lora and switches.get("--tune_llm"):
        raise OptionsError("tune_llm_with_lora")
    if not is_lora and not switches.get("--tune_llm"):
        raise OptionsError("language_model_untrained")
    return ["--method", "full" if not is_lora else "qlora" if switches.get("--q_lora") else "lora"]
