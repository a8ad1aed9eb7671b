"""Check a written model folder: transformers loads every tensor, and a forward pass is finite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.errors import VerificationError
from mergekit_audio.merge._small_inputs import small_input
from mergekit_audio.weights.keys import canonical_name
from mergekit_audio.weights.side_files import custom_code
from mergekit_audio.weights.strict_json import parse_object

_HUBERT_TYPES = ("mert_model", "mert")
_BEYOND_HUBERT = ("deepnorm", "feature_extractor_cqt")
_TRUST_HINT = "add --trust-remote-code to run the folder's own code, if you trust it"


@dataclass(frozen=True)
class LoadReport:
    """What the check saw.

    Parameters
    ----------
    model_class
        The class that loaded the folder.
    tensors, parameters
        Tensors of the model's state, and its number of parameters.
    inputs
        Names and shapes of what the forward pass was given.
    outputs
        Number of output values, all finite.
    own_code
        The folder's own code was run.
    """

    model_class: str
    tensors: int
    parameters: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: int
    own_code: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "model_class": self.model_class,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "outputs": self.outputs,
            "own_code": self.own_code,
        }


def check_load(folder: Path, *, trust_remote_code: bool = False) -> LoadReport:
    """Load a model folder with transformers on the CPU, in float32, and run it once.

    The class is that of the folder's own code (only with ``trust_remote_code``), else the first of
    ``architectures`` that transformers has, else the one of ``model_type``; MERT's own types load
    as `HubertModel`, which computes the same. No tensor may be missing, unexpected or of another
    shape (the two spellings of weight norm are one). The forward pass gets a small seeded input.

    Raises
    ------
    VerificationError
        The folder does not load so, or an output is not finite.
    """
    folder = Path(folder)
    config = _read_config(folder)
    own_code = trust_remote_code and bool(config.get("auto_map")) and bool(custom_code(folder))
    import torch

    with _quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _loaded(folder, config, own_code)
        inputs = small_input(model, folder)
        outputs = _run(model, inputs, folder)
    return LoadReport(
        model_class=type(model).__name__,
        tensors=len(model.state_dict()),
        parameters=sum(each.numel() for each in model.parameters()),
        inputs={name: tuple(value.shape) for name, value in inputs.items()},
        outputs=outputs,
        own_code=own_code,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return parse_object(path.read_bytes())
    except OSError as error:
        raise VerificationError(
            f"{path}: can't be read ({error.strerror}), so nothing says which model this is",
            "give the merge a base with a config.json, or leave out --check-load",
        ) from error
    except ValueError as error:
        raise VerificationError(f"{path}: {error}", "run the merge again") from None


def _loaded(folder: Path, config: Mapping[str, Any], own_code: bool) -> Any:
    model_class, keywords = _class_of(folder, config, own_code)
    import torch

    try:
        model, found = model_class.from_pretrained(
            folder,
            output_loading_info=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that all of them are listed
            dtype=torch.float32,
            **keywords,
        )
    except MemoryError:
        raise
    except Exception as error:  # transformers, and a folder's own code, can raise anything
        raise VerificationError(
            f"{folder}: does not load as {model_class.__name__}: {_first_line(error)}",
            _TRUST_HINT if config.get("auto_map") and not own_code else "run the merge again",
        ) from error
    faults = _faults(found)
    if faults:
        raise VerificationError(
            f"{folder}: does not load as {type(model).__name__} without loss "
            f"({len(faults)} differences):\n" + "\n".join(f"  {fault}" for fault in faults),
            "config.json is of another model, or tensors were left out: compare with `cmerge "
            "inspect`",
        )
    return model.eval()


def _class_of(
    folder: Path, config: Mapping[str, Any], own_code: bool
) -> tuple[Any, dict[str, Any]]:
    """Return the class that loads the folder, and keywords of its ``from_pretrained``."""
    import transformers

    model_type = config.get("model_type")
    if own_code:
        names = [name for name in config["auto_map"] if name.startswith("AutoModel")]
        if not names:
            raise VerificationError(
                f"{folder / 'config.json'}: auto_map names no model",
                "leave out --trust-remote-code",
            )
        return getattr(transformers, names[0]), {"trust_remote_code": True}
    if model_type in _HUBERT_TYPES:
        return transformers.HubertModel, {"config": _hubert_config(folder, config)}
    if model_type not in transformers.CONFIG_MAPPING:
        raise VerificationError(
            f"{folder / 'config.json'}: model_type is {model_type!r}, which transformers "
            f"{transformers.__version__} does not have",
            _TRUST_HINT if config.get("auto_map") else "leave out --check-load",
        )
    for name in config.get("architectures") or []:
        found = getattr(transformers, name, None)
        if isinstance(found, type):
            return found, {}
    return transformers.AutoModel, {"trust_remote_code": False}


def _hubert_config(folder: Path, config: Mapping[str, Any]) -> Any:
    """Return MERT's config without the keys that only its own code reads."""
    from transformers import HubertConfig

    for key in _BEYOND_HUBERT:
        if config.get(key):
            raise VerificationError(
                f"{folder / 'config.json'}: {key} is true, which HubertModel does not compute",
                _TRUST_HINT,
            )
    known = HubertConfig().to_dict().keys() - {"model_type", "architectures"}
    return HubertConfig(**{key: value for key, value in config.items() if key in known})


def _faults(found: Mapping[str, Any]) -> list[str]:
    """Return what did not load, sorted; a weight norm in two spellings is no fault."""
    missing = {canonical_name(name): name for name in found["missing_keys"]}
    unexpected = {canonical_name(name): name for name in found["unexpected_keys"]}
    faults = [f"missing tensor {missing[name]}" for name in sorted(missing.keys() - unexpected)]
    faults += [
        f"unexpected tensor {unexpected[name]}" for name in sorted(unexpected.keys() - missing)
    ]
    for name, there, here in sorted(found["mismatched_keys"], key=lambda each: str(each[0])):
        faults.append(f"{name}: shape {list(there)}, the config asks for {list(here)}")
    return faults + [str(message) for message in found.get("error_msgs", ())]


def _run(model: Any, inputs: Mapping[str, Any], folder: Path) -> int:
    """Return the number of output values of one forward pass."""
    import torch

    try:
        with torch.inference_mode():
            outputs = model(**inputs)
    except MemoryError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        raise VerificationError(
            f"{folder}: the forward pass of {type(model).__name__} on {shapes} failed: "
            f"{_first_line(error)}",
            "config.json may be of another model; leave out --check-load to keep the merge",
        ) from error
    count = 0
    for tensor in _tensors(outputs):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise VerificationError(
                f"{folder}: the forward pass of {type(model).__name__} gives values that are not "
                "finite",
                "λ may be too large: try a smaller scale",
            )
        count += tensor.numel()
    if not count:
        raise VerificationError(
            f"{folder}: the forward pass of {type(model).__name__} gives no values",
            "leave out --check-load to keep the merge",
        )
    return count


def _tensors(outputs: Any) -> Iterator[Any]:
    """Yield the tensors of nested outputs."""
    import torch

    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for each in outputs.values():
            yield from _tensors(each)
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        for each in outputs:
            yield from _tensors(each)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence what transformers prints while it loads; the report says it all."""
    from transformers.utils import logging

    level, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shows_bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
