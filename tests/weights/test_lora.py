"""LoRA adapters: the change of every tensor is the one that peft itself merges."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import tensors_of, tiny_gpt2, tiny_hubert, tiny_llama, write_adapter
from safetensors.torch import load_file, save_file

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.weights.keys import canonical_name
from mergekit_audio.weights.lora import is_adapter, open_adapter

ATTENTION = ["q_proj", "v_proj"]


def shapes(tensors):
    return {canonical_name(name): tuple(value.shape) for name, value in tensors.items()}


def assert_equals_peft(base, merged, adapter):
    by_name = {canonical_name(name): value.double().numpy() for name, value in base.items()}
    adapter = adapter.on(shapes(base), "base", by_name.__getitem__)
    changed = set()
    for name, expected in merged.items():
        delta = expected.double() - base[name].double()
        canonical = canonical_name(name)
        if canonical in adapter.deltas:
            changed.add(canonical)
            assert adapter.delta(canonical).dtype == np.float64
            found = base[name].double().numpy() + adapter.delta(canonical)
            np.testing.assert_allclose(found, expected.double().numpy(), atol=1e-6, rtol=1e-6)
            assert delta.abs().max() > 1e-3
        else:
            assert not delta.any()
    assert changed == set(adapter.deltas)


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (tiny_hubert, {"target_modules": ATTENTION, "r": 3}),
        (tiny_hubert, {"target_modules": ATTENTION, "r": 4, "lora_alpha": 10, "use_rslora": True}),
        (
            tiny_hubert,
            {
                "target_modules": [*ATTENTION, "intermediate_dense"],
                "r": 4,
                "rank_pattern": {r"layers\.1\.attention\.q_proj": 2, "intermediate_dense": 5},
                "alpha_pattern": {"v_proj": 32},
            },
        ),
        (tiny_hubert, {"target_modules": r".*conv_layers\.\d\.conv", "r": 3, "lora_alpha": 5}),
        (tiny_hubert, {"target_modules": "all-linear", "r": 2}),
        (tiny_llama, {"target_modules": ["q_proj", "embed_tokens"], "r": 3}),
        (tiny_llama, {"target_modules": r".*\.1\.mlp\..*_proj", "r": 3}),
        (tiny_gpt2, {"target_modules": ["c_attn", "c_proj"], "r": 3, "fan_in_fan_out": True}),
    ],
    ids=["linear", "rslora", "patterns", "conv1d", "all", "embedding", "regex", "fan_in_fan_out"],
)
def test_the_change_is_what_peft_merges(tmp_path: Path, build, settings) -> None:
    model = build()
    base = tensors_of(model)
    merged = write_adapter(model, tmp_path / "adapter", **settings)
    assert is_adapter(tmp_path / "adapter")
    assert_equals_peft(base, merged, open_adapter(tmp_path / "adapter"))


def test_a_transposed_square_weight(tmp_path: Path) -> None:
    """An attention output of GPT-2 is square: only the config tells that Δ is transposed."""
    model = tiny_gpt2()
    base = tensors_of(model)
    merged = write_adapter(model, tmp_path, target_modules=["c_proj"], r=2, fan_in_fan_out=True)
    adapter = open_adapter(tmp_path)
    delta = adapter.delta("h.0.attn.c_proj.weight")
    expected = (merged["h.0.attn.c_proj.weight"] - base["h.0.attn.c_proj.weight"]).numpy()
    np.testing.assert_allclose(delta, expected, atol=1e-6)


def test_a_hand_worked_example(tmp_path: Path) -> None:
    """α / r = 6 / 2 = 3; B·A = [[1·1 + 2·0, 1·2 + 2·1]] = [[1, 4]]; Δ = [[3, 12]]."""
    handmade(tmp_path, {"x": ([[1.0, 2.0], [0.0, 1.0]], [[1.0, 2.0]])}, r=2, lora_alpha=6)
    factors = open_adapter(tmp_path).deltas["x.weight"]
    assert (factors.kind, factors.shape, factors.rank, factors.scaling) == ("linear", (1, 2), 2, 3)
    np.testing.assert_array_equal(open_adapter(tmp_path).delta("x.weight"), [[3.0, 12.0]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_factors_of_other_dtypes_are_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    a, b = torch.randn(2, 5).to(dtype), torch.randn(3, 2).to(dtype)
    handmade(tmp_path, {"x": (a, b)}, r=2, lora_alpha=2)
    expected = b.double().numpy() @ a.double().numpy()
    np.testing.assert_allclose(open_adapter(tmp_path).delta("x.weight"), expected, rtol=1e-14)


def test_an_adapters_name_in_the_keys_and_torch_files_are_read(tmp_path: Path) -> None:
    handmade(tmp_path, {"x": ([[1.0, 2.0]], [[3.0]])}, r=1, lora_alpha=1)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").unlink()
    named = {key.replace(".weight", ".culture.weight"): each for key, each in tensors.items()}
    torch.save(named, tmp_path / "adapter_model.bin")
    np.testing.assert_array_equal(open_adapter(tmp_path).delta("x.weight"), [[3.0, 6.0]])


def test_the_digest_is_of_what_is_added(tmp_path: Path) -> None:
    factors = {"x": ([[1.0, 2.0]], [[3.0]])}
    digests = []
    for folder, changes in (("a", {}), ("b", {"lora_dropout": 0.5}), ("c", {"lora_alpha": 2})):
        handmade(tmp_path / folder, factors, **{"r": 1, "lora_alpha": 1, **changes})
        digests.append(open_adapter(tmp_path / folder).digest())
    handmade(tmp_path / "d", {"x": ([[1.0, 2.0]], [[4.0]])}, r=1, lora_alpha=1)
    digests.append(open_adapter(tmp_path / "d").digest())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert [path.name for path in open_adapter(tmp_path / "a").files()] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_prefix_of_all_names_is_put_on_or_taken_off(tmp_path: Path) -> None:
    handmade(
        tmp_path,
        {f"hubert.layers.{i}": ([[1.0, 2.0]], [[3.0]]) for i in range(2)},
        r=1,
        lora_alpha=1,
    )
    adapter = open_adapter(tmp_path)
    bare = {f"layers.{i}.weight": (1, 2) for i in range(2)}
    assert set(adapter.on(bare, "base", unasked).deltas) == set(bare)
    longer = {f"model.hubert.{name}": shape for name, shape in bare.items()}
    assert set(adapter.on(longer, "base", unasked).deltas) == set(longer)
    mixed = {"layers.0.weight": (1, 2), "hubert.layers.1.weight": (1, 2)}
    with pytest.raises(LayoutError, match=r"hubert\.layers\.0\.weight: the base has no such"):
        adapter.on(mixed, "base", unasked)


def test_a_target_that_the_base_lacks_is_named_with_the_nearest(tmp_path: Path) -> None:
    handmade(tmp_path, {"enc.q_prj": ([[1.0, 2.0]], [[3.0]])}, r=1)
    with pytest.raises(LayoutError) as caught:
        open_adapter(tmp_path).on({"enc.q_proj.weight": (1, 2)}, "the base", unasked)
    assert "does not fit the base:\n  enc.q_prj.weight: the base has no" in caught.value.message
    assert caught.value.hint == "did you mean 'enc.q_proj.weight'?"
    handmade(tmp_path, {"conv": ([[1.0, 2.0]], [[3.0]])}, r=1)
    with pytest.raises(LayoutError) as caught:
        open_adapter(tmp_path).on(
            {"conv.weight_v": (1, 2), "conv.weight_g": (1, 1)}, "base", unasked
        )
    assert "weight-normalised" in caught.value.hint
    with pytest.raises(LayoutError, match=r"Δ is \[1, 2\], the base's tensor \[2, 1\]"):
        open_adapter(tmp_path).on({"conv.weight": (2, 1)}, "base", unasked)
    with pytest.raises(InputError, match=r"no factors for 'convs\.weight'"):
        open_adapter(tmp_path).delta("convs.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ({"use_dora": True}, "use_dora is True: DoRA"),
        ({"modules_to_save": ["head"]}, "modules_to_save is .*whole modules"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"brand_new": {"a": 1}}, "not known here .brand_new"),
        ({"r": 0}, "r is 0, expected a whole number"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": "8"}, "lora_alpha is '8', expected a number"),
        ({"use_rslora": 1}, "use_rslora is 1, expected true or false"),
        ({"rank_pattern": {"(": 1}}, "expected a regular expression"),
        ({"rank_pattern": {"x": 0}}, r"rank_pattern\['x'\] is 0"),
        ({"target_modules": 3}, "target_modules is 3"),
        ({"target_modules": ["y"]}, "factors of 'x', which target_modules .* does not name"),
        ({"target_modules": "(.*y"}, "expected a regular expression"),
        ({"r": 2}, r"expected A \[2, in …\].*r = 2"),
    ],
)
def test_what_is_more_than_low_rank_is_refused(tmp_path: Path, change, message) -> None:
    handmade(tmp_path, {"x": ([[1.0, 2.0]], [[3.0]])}, **{"r": 1, **change})
    with pytest.raises(InputError, match=message) as caught:
        open_adapter(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base_model.model.x.lora_magnitude_vector", "no LoRA factor"),
        ("base_model.model.x.lora_B.bias", "no LoRA factor"),
        ("x.lora_A.weight", "no LoRA factor"),
        ("base_model.model.head.weight", "no LoRA factor"),
        ("base_model.model.x.lora_A.other.weight", "of two adapters"),
        ("base_model.model.y.lora_A.weight", "without its other factor"),
    ],
)
def test_keys_that_are_no_factors_are_refused(tmp_path: Path, key: str, message: str) -> None:
    handmade(tmp_path, {"x": ([[1.0, 2.0]], [[3.0]])}, r=1)
    path = tmp_path / "adapter_model.safetensors"
    save_file({**load_file(path), key: torch.ones(1, 2)}, path)
    with pytest.raises(InputError, match=message):
        open_adapter(tmp_path)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        open_adapter(tmp_path)
    handmade(tmp_path, {"x": ([[float("nan"), 2.0]], [[3.0]])}, r=1)
    with pytest.raises(InputError, match="not finite"):
        open_adapter(tmp_path).delta("x.weight")
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="without weights"):
        open_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object"):
        open_adapter(tmp_path)


def test_factors_of_a_grouped_convolution_are_refused(tmp_path: Path) -> None:
    handmade(tmp_path, {"x": (torch.ones(4, 8, 3), torch.ones(8, 2, 1))}, r=4)
    with pytest.raises(InputError) as caught:
        open_adapter(tmp_path)
    assert "grouped" in caught.value.hint


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    handmade(tmp_path, {"x": ([[1.0, 2.0]], [[3.0]])}, r=1)
    code = (
        "import sys; from pathlib import Path\n"
        "from mergekit_audio.weights.lora import open_adapter\n"
        f"open_adapter(Path({str(tmp_path)!r})).delta('x.weight')\n"
        "assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={"PYTHONPATH": "."})


def test_an_embedding_must_be_the_one_that_peft_saved_beside_its_factors(tmp_path: Path) -> None:
    handmade(tmp_path, {"x": ([[1.0, 2.0]], [[3.0]])}, r=1)
    path = tmp_path / "adapter_model.safetensors"
    saved = {"base_model.model.x.base_layer.weight": torch.tensor([[0.1, 0.2]])}
    save_file({**load_file(path), **saved}, path)
    own = {"x.weight": np.float64(np.float32([[0.1, 0.2]]))}
    adapter = open_adapter(tmp_path).on({"x.weight": (1, 2)}, "base", own.__getitem__)
    np.testing.assert_array_equal(adapter.delta("x.weight"), [[24.0, 48.0]])
    other = {"x.weight": np.array([[0.1, 0.3]])}
    with pytest.raises(LayoutError, match=r"x\.weight: the adapter was trained on other values"):
        open_adapter(tmp_path).on({"x.weight": (1, 2)}, "base", other.__getitem__)


def unasked(name):
    raise AssertionError(f"{name} is asked for")


def handmade(folder: Path, factors, **changes) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {}
    for module, (a, b) in factors.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.as_tensor(a)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.as_tensor(b)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": None, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
