"""Read and check `adapter_config.json` of a LoRA adapter, as peft writes it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mergekit_audio.errors import InputError
from mergekit_audio.weights.strict_json import parse_object

CONFIG_NAME = "adapter_config.json"

MERGE_WITH_PEFT = (
    "merge it with peft instead: PeftModel.from_pretrained(model, adapter).merge_and_unload() and "
    "save_pretrained(folder), then give that folder"
)

# Told apart because each changes what the factors mean; a value of None, False or empty is off.
_REFUSED = {
    "use_dora": "DoRA, whose weights are not base + B·A",
    "use_qalora": "QA-LoRA, whose A sees pooled inputs",
    "use_bdlora": "BD-LoRA, whose factors are block-diagonal",
    "alora_invocation_tokens": "an activated LoRA, which acts on some tokens only",
    "arrow_config": "a router over adapters, not one adapter",
    "kasa_config": "KaSA, whose factors have singular values between them",
    "monteclora_config": "MonteCLoRA, whose factors are random",
    "layer_replication": "replicated layers, which the base does not have",
    "modules_to_save": "whole modules beside the factors",
    "trainable_token_indices": "embeddings of single tokens beside the factors",
    "target_parameters": "factors of parameters that are not a module's weight",
    "lora_bias": "biases of the factors",
    "megatron_config": "Megatron's parallel layers",
}
# No effect on what the factors add to the base once they are trained.
_IGNORED = (
    *("auto_mapping", "base_model_name_or_path", "revision", "peft_version", "inference_mode"),
    *("task_type", "lora_dropout", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("qalora_group_size", "runtime_config", "ensure_weight_tying", "velora_config"),
    *("target_modules_to_tie", "_custom_modules", "enable_lora", "merge_weights"),
)
# The other initialisations write the base anew, so the factors do not belong to the base's files.
_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")


@dataclass(frozen=True)
class LoraSettings:
    """What `adapter_config.json` says about the factors.

    Parameters
    ----------
    rank, alpha
        r and α of every module that no pattern names.
    rank_pattern, alpha_pattern
        r and α by regular expression over the end of a module's name; the first that fits counts.
    use_rslora
        Scaling is α / √r instead of α / r (rsLoRA, arXiv 2312.03732).
    fan_in_fan_out
        The base's 2-D weights are ``[in, out]``.
    targets
        Ends of module names, or one regular expression over whole names; None: any module.
    """

    path: Path
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    use_rslora: bool
    fan_in_fan_out: bool
    targets: tuple[str, ...] | str | None

    def rank_of(self, module: str) -> int:
        """Return r of a module."""
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """Return α / r of a module, or α / √r."""
        rank = self.rank_of(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.alpha)
        return float(alpha / math.sqrt(rank) if self.use_rslora else alpha / rank)

    def is_target(self, module: str) -> bool:
        """Say whether the config lets this module have factors."""
        if self.targets is None:
            return True
        if isinstance(self.targets, str):
            return re.fullmatch(self.targets, module) is not None
        return any(module == name or module.endswith("." + name) for name in self.targets)


def read_settings(folder: Path) -> LoraSettings:
    """Return the settings of an adapter's folder.

    Raises
    ------
    InputError
        There is no config, it is no LoRA's, or it asks for more than base + scaling · B·A.
    """
    path = folder / CONFIG_NAME
    try:
        config = parse_object(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path}: can't be read ({error.strerror})",
            "a LoRA adapter is a folder that peft's save_pretrained wrote",
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: {error}", "download or copy the adapter again") from None
    _check_kind(path, config)
    return LoraSettings(
        path=path,
        rank=_rank(path, "r", config.get("r", 8)),
        alpha=_number(path, "lora_alpha", config.get("lora_alpha", 8)),
        rank_pattern=_pattern(path, config, "rank_pattern", _rank),
        alpha_pattern=_pattern(path, config, "alpha_pattern", _number),
        use_rslora=_flag(path, config, "use_rslora"),
        fan_in_fan_out=_flag(path, config, "fan_in_fan_out"),
        targets=_targets(path, config.get("target_modules")),
    )


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"{path}: peft_type is {kind!r}, expected 'LORA'",
            "other kinds of adapter add no low-rank matrix: " + MERGE_WITH_PEFT,
        )
    for key, meaning in _REFUSED.items():
        if config.get(key):
            raise InputError(
                f"{path}: {key} is {_short(config[key])}: {meaning}; expected plain LoRA factors",
                MERGE_WITH_PEFT,
            )
    if config.get("bias", "none") != "none":
        raise InputError(
            f"{path}: bias is {config['bias']!r}: the adapter replaces biases; expected 'none'",
            MERGE_WITH_PEFT,
        )
    start = config.get("init_lora_weights", True)
    if start not in _INITIALISATIONS:
        raise InputError(
            f"{path}: init_lora_weights is {start!r}, which changes the base's weights before "
            "training, so that the factors do not belong to the base's files",
            "convert the adapter with peft (save_pretrained's path_initial_model_for_weight_"
            "conversion), or " + MERGE_WITH_PEFT,
        )
    known = {
        *_REFUSED,
        *_IGNORED,
        *("peft_type", "bias", "init_lora_weights", "r", "lora_alpha", "use_rslora"),
        *("rank_pattern", "alpha_pattern", "fan_in_fan_out", "target_modules"),
    }
    if unknown := [key for key in sorted(config.keys() - known) if config[key]]:
        shown = ", ".join(f"{key}: {_short(config[key])}" for key in unknown)
        raise InputError(f"{path}: settings that are not known here ({shown})", MERGE_WITH_PEFT)


def _pattern(path: Path, config: Mapping[str, Any], key: str, read: Any) -> dict[str, Any]:
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        _refuse(path, key, patterns, "names of modules with a number each")
    for pattern in patterns:
        _check_expression(path, key, pattern)
    return {name: read(path, f"{key}[{name!r}]", value) for name, value in patterns.items()}


def _targets(path: Path, value: Any) -> tuple[str, ...] | str | None:
    if value is None or value == "all-linear":
        return None
    if isinstance(value, str):
        _check_expression(path, "target_modules", value)
        return value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        _refuse(path, "target_modules", value, "names of modules, or one regular expression")
    return tuple(value)


def _check_expression(path: Path, key: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        _refuse(path, key, pattern, f"a regular expression ({error})")


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _rank(path: Path, key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        _refuse(path, key, value, "a whole number from 1")
    return int(value)


def _number(path: Path, key: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        _refuse(path, key, value, "a number")
    return float(value)


def _flag(path: Path, config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        _refuse(path, key, value, "true or false")
    return bool(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _refuse(path: Path, key: str, value: Any, expected: str) -> NoReturn:
    raise InputError(
        f"{path}: {key} is {_short(value)}, expected {expected}",
        "download or copy the adapter again",
    )
