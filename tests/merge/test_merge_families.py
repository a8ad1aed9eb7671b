"""Models of many families merge by tensor name alone, and transformers loads what comes out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import tiny_encodec, tiny_gpt2, tiny_hubert, tiny_llama, tiny_wav2vec2, tiny_whisper
from safetensors.torch import load_file

from mergekit_audio import merge
from mergekit_audio.merge.check_load import check_load
from mergekit_audio.recipe.load import load


@pytest.mark.parametrize(
    "build",
    [tiny_hubert, tiny_wav2vec2, tiny_whisper, tiny_encodec, tiny_llama, tiny_gpt2],
    ids=lambda build: build.__name__,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_family_merges_and_loads(tmp_path: Path, build, dtype: str) -> None:
    model = build()
    generator = torch.Generator().manual_seed(7)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("base", "one", "two"):
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                noise = 0.01 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(start[parameter_name] + (0 if name == "base" else noise))
        model.to(getattr(torch, dtype)).save_pretrained(tmp_path / name)
        model.to(torch.float32)
    (tmp_path / "base/generation_config.json").write_text('{"max_length": 9}')
    (tmp_path / "merge.yaml").write_text(
        "kind: merge\nbase: base\nmodels: [{model: one}, {model: two, weight: 0.5}]\n"
        "method: {name: task_arithmetic}\nscale: 0.2\noutput: merged\n"
    )
    merge.run(merge.plan(load(tmp_path / "merge.yaml").recipe, tmp_path))
    report = check_load(tmp_path / "merged")
    assert report.model_class == type(model).__name__
    assert json.loads((tmp_path / "merged/generation_config.json").read_text())["max_length"] == 9
    files = [load_file(tmp_path / each / "model.safetensors") for each in ("base", "one", "two")]
    merged = load_file(tmp_path / "merged/model.safetensors")
    assert set(merged) == set(files[0])
    for name, tensor in merged.items():
        base, one, two = (each[name].double().numpy() for each in files)
        expected = base + 0.2 * ((one - base) + 0.5 * (two - base))
        if tensor.is_floating_point():
            rounded = torch.from_numpy(np.float32(expected)).to(getattr(torch, dtype))
            assert torch.equal(tensor, rounded)
