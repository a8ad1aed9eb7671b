"""Extracted adapters: peft loads them, and they have the errors that are told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import seeded, tensors_of, tiny_gpt2, tiny_hubert, tiny_llama
from safetensors.torch import load_file, save_file

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.lock import read_lock, verify
from mergekit_audio.merge._low_rank import factorise
from mergekit_audio.merge.extract_lora import extract
from mergekit_audio.merge.extraction_plan import ExtractSettings, plan_extraction
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.lora import open_adapter


def pair(root: Path, build=tiny_hubert, rank: int | None = None) -> dict[str, torch.Tensor]:
    """Write ``base`` and ``tuned``, changed at random or by matrices of a rank; return tuned's."""
    model = build()
    model.save_pretrained(root / "base")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            change = torch.randn(parameter.shape, generator=generator) * 0.05
            if rank and parameter.ndim == 2:
                left = torch.randn(parameter.shape[0], rank, generator=generator)
                change = 0.05 * left @ torch.randn(rank, parameter.shape[1], generator=generator)
            elif rank:
                change = torch.zeros_like(parameter)
            parameter.add_(change)
    model.save_pretrained(root / "tuned")
    return load_file(root / "tuned/model.safetensors")


def settings(**changes) -> ExtractSettings:
    return ExtractSettings(**{"model": "tuned", "base": "base", "output": "lora", **changes})


def run(root: Path, **changes):
    return extract(plan_extraction(settings(**changes), root))


def delta(root: Path, name: str) -> np.ndarray:
    base, tuned = (load_file(root / each / "model.safetensors") for each in ("base", "tuned"))
    return (tuned[name].double() - base[name].double()).numpy()


def test_a_matrix_worked_by_hand() -> None:
    """[[3, 0], [0, -4]] to rank 1 keeps the 4: A = [0, 2], B = [0, -2], error 3 of norm 5."""
    found = factorise(np.array([[3.0, 0.0], [0.0, -4.0]]), rank=1)
    np.testing.assert_allclose(found.a, [[0.0, 2.0]], atol=1e-12)
    np.testing.assert_allclose(found.b, [[0.0], [-2.0]], atol=1e-12)
    assert (found.norm, found.error, found.rank) == (5.0, 3.0, 1)
    assert factorise(np.array([[3.0, 0.0], [0.0, -4.0]]), energy=0.64).rank == 1
    assert factorise(np.array([[3.0, 0.0], [0.0, -4.0]]), energy=0.65).rank == 2


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6), (1, 4), (4, 1)])
@pytest.mark.parametrize("rank", [1, 3, 20])
def test_the_factors_are_the_best_of_their_rank(shape, rank) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape)
    found = factorise(matrix, rank=rank)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = min(rank, *shape)
    best = (u[:, :kept] * s[:kept]) @ vt[:kept]
    assert (found.rank, found.a.dtype, found.b.dtype) == (kept, np.float32, np.float32)
    np.testing.assert_allclose(found.b.astype(float) @ found.a, best, atol=1e-6)
    assert found.error == pytest.approx(np.sqrt(np.sum(s[kept:] ** 2)), abs=1e-6)
    assert (found.a[np.arange(kept), np.argmax(np.abs(found.a), axis=1)] > 0).all()
    np.testing.assert_allclose(
        np.linalg.norm(found.a, axis=1), np.linalg.norm(found.b, axis=0), rtol=1e-5
    )


def test_directions_beyond_the_matrix_rank_are_zero() -> None:
    generator = np.random.default_rng(1)
    matrix = generator.standard_normal((9, 2)) @ generator.standard_normal((2, 6))
    found = factorise(matrix, rank=5)
    assert found.error < 1e-6 * found.norm
    assert np.isfinite(found.a).all()
    assert np.abs(found.b[:, 2:]).max() < 1e-3
    assert factorise(matrix, energy=0.999999999).rank == 2
    assert factorise(matrix * 1e-20, rank=2).error < 1e-26


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (tiny_hubert, {"rank": 3}),
        (tiny_hubert, {"energy": 0.7}),
        (tiny_llama, {"match": ["*.q_proj.weight", "model.embed_tokens.weight"], "rank": 2}),
        (tiny_gpt2, {"rank": 3}),
    ],
    ids=["rank", "energy", "embedding", "fan_in_fan_out"],
)
@pytest.mark.filterwarnings("ignore")  # peft's own
def test_peft_loads_what_is_written(tmp_path: Path, build, changes) -> None:
    from peft import PeftModel

    pair(tmp_path, build)
    report = run(tmp_path, **changes).report
    base = type(build()).from_pretrained(tmp_path / "base")
    before = tensors_of(base)
    merged = PeftModel.from_pretrained(base, tmp_path / "lora").merge_and_unload().state_dict()
    adapter = open_adapter(tmp_path / "lora")
    rows = {row["name"]: row for row in report["tensors"]}
    assert list(rows) == list(adapter.deltas)
    for name, tensor in merged.items():
        change = (tensor.double() - before[name].double()).numpy()
        if name not in rows:
            assert not change.any()
            continue
        np.testing.assert_allclose(adapter.delta(name), change, atol=1e-6)
        full = delta(tmp_path, name)
        error = np.linalg.norm(full - adapter.delta(name))
        assert rows[name]["error"] == pytest.approx(error, rel=1e-6)
        assert rows[name]["norm"] == pytest.approx(np.linalg.norm(full), rel=1e-9)
        if "energy" in changes:
            assert 1 - (error / np.linalg.norm(full)) ** 2 >= 0.7 - 1e-6
            assert rows[name]["rank"] < min(full.shape)


def test_the_totals_are_over_all_tensors(tmp_path: Path) -> None:
    tuned = pair(tmp_path)
    report = run(tmp_path, rank=2).report
    names = [row["name"] for row in [*report["tensors"], *report["left_out"]]]
    assert len(names) == len(set(names)) == len(tuned)
    squares = {name: np.sum(delta(tmp_path, name) ** 2) for name in tuned}
    assert report["total"]["norm"] ** 2 == pytest.approx(sum(squares.values()), rel=1e-9)
    adapter = open_adapter(tmp_path / "lora")
    wrong = sum(
        np.sum((delta(tmp_path, name) - adapter.delta(name)) ** 2)
        if name in adapter.deltas
        else squares[name]
        for name in tuned
    )
    total = report["total"]
    assert total["error"] ** 2 == pytest.approx(wrong, rel=1e-6)
    assert total["relative_error"] == pytest.approx(total["error"] / total["norm"])
    assert total["energy_kept"] == pytest.approx(1 - wrong / sum(squares.values()), rel=1e-6)
    reasons = {row["name"]: row["because"] for row in report["left_out"]}
    assert reasons["feature_projection.layer_norm.weight"] == "1-D, not a matrix"
    assert json.loads((tmp_path / "lora/extraction.json").read_text()) == report
    text = (tmp_path / "lora/README.md").read_text()
    assert f"{total['relative_error']:.4g} over the whole model" in text
    assert "library_name: peft" in text


def test_a_change_of_low_rank_comes_back_whole(tmp_path: Path) -> None:
    pair(tmp_path, rank=2)
    report = run(tmp_path, rank=2).report
    assert report["total"]["relative_error"] < 1e-5
    assert {row["rank"] for row in report["tensors"]} == {2}
    assert {row["because"] for row in report["left_out"] if row["norm"]} == set()


def test_the_same_bytes_again_and_a_lock_that_holds(tmp_path: Path) -> None:
    pair(tmp_path)
    extract(plan_extraction(settings(energy=0.8), tmp_path))
    assert verify(tmp_path / "lora") == []
    first = (tmp_path / "lora/adapter_model.safetensors").read_bytes()
    extract(plan_extraction(settings(energy=0.8), tmp_path), force=True)
    assert (tmp_path / "lora/adapter_model.safetensors").read_bytes() == first
    again = tmp_path / "again/lora"
    lock = extract(plan_extraction(settings(energy=0.8), tmp_path), output=again).lock
    assert lock.outputs == read_lock(tmp_path / "lora").outputs
    with pytest.raises(InputError, match="already exists"):
        extract(plan_extraction(settings(), tmp_path))
    with pytest.raises(InputError, match="would replace the input"):
        extract(plan_extraction(settings(output="tuned"), tmp_path), force=True)


def test_unequal_ranks_reach_their_own_modules(tmp_path: Path) -> None:
    """`proj` and `a.proj` end alike: each pattern must meet its own module in peft's order."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"proj.weight": (9, 9), "a.proj.weight": (3, 9), "b.a.proj.weight": (9, 2)}
    for folder in ("base", "tuned"):
        (tmp_path / folder).mkdir()
        tensors = {name: torch.randn(each, generator=generator) for name, each in shapes.items()}
        save_file(tensors, tmp_path / folder / "model.safetensors")
    report = run(tmp_path, rank=5).report
    assert {row["name"]: row["rank"] for row in report["tensors"]} == {
        "a.proj.weight": 3,
        "b.a.proj.weight": 2,
        "proj.weight": 5,
    }
    adapter = open_adapter(tmp_path / "lora")
    assert {each.scaling for each in adapter.deltas.values()} == {1.0}


def test_embeddings_need_to_be_asked_for_and_unchanged_tensors_have_no_factors(
    tmp_path: Path,
) -> None:
    pair(tmp_path, tiny_llama)
    tuned = load_file(tmp_path / "tuned/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tuned[name] = load_file(tmp_path / "base/model.safetensors")[name]
    save_file(tuned, tmp_path / "tuned/model.safetensors", metadata={"format": "pt"})
    report = run(tmp_path).report
    reasons = {row["name"]: row["because"] for row in report["left_out"]}
    assert reasons["model.embed_tokens.weight"] == "an embedding"
    assert reasons[name] == "unchanged"
    assert "lm_head.weight" in {row["name"] for row in report["tensors"]}
    (tmp_path / "same").mkdir()
    save_file(tuned, tmp_path / "same/model.safetensors")
    with pytest.raises(InputError, match="equals tuned in every tensor"):
        extract(plan_extraction(settings(model="same", base="tuned", output="x"), tmp_path))
    assert not (tmp_path / "x").exists()


def test_what_can_not_be_extracted_is_refused(tmp_path: Path) -> None:
    pair(tmp_path)
    with pytest.raises(InputError, match=r"match 'encoder\.layer\.\*': no 2-D weight"):
        plan_extraction(settings(match=["encoder.layer.*"]), tmp_path)
    with pytest.raises(InputError, match=r"match .*layer_norm.*no 2-D weight"):
        plan_extraction(settings(match=["encoder.layer_norm.weight"]), tmp_path)
    with pytest.raises(ValueError, match="exclude each other"):
        settings(rank=2, energy=0.5)
    seeded(lambda: tiny_hubert(num_hidden_layers=1)).save_pretrained(tmp_path / "short")
    with pytest.raises(LayoutError, match=r"layers\.1\..*: only in base"):
        plan_extraction(settings(model="short"), tmp_path)
    assert Checkpoint.open("base", root=tmp_path).index


def test_a_merge_takes_the_adapter_for_the_model(tmp_path: Path) -> None:
    """A change of low rank, extracted and merged at λ = 1, gives the tuned model again."""
    from mergekit_audio import merge
    from mergekit_audio.merge.check_load import check_load
    from mergekit_audio.recipe.load import load

    tuned = pair(tmp_path, rank=2)
    run(tmp_path, rank=2)
    (tmp_path / "merge.yaml").write_text(
        "kind: merge\nbase: base\nmodels: [{model: lora}]\nmethod: {name: task_arithmetic}\n"
        "output: merged\n"
    )
    merge.run(merge.plan(load(tmp_path / "merge.yaml").recipe, tmp_path))
    merged = load_file(tmp_path / "merged/model.safetensors")
    for name, tensor in tuned.items():
        torch.testing.assert_close(merged[name], tensor, atol=1e-6, rtol=1e-5)
    assert check_load(tmp_path / "merged").model_class == "HubertModel"
