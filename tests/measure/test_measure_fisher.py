"""The Fisher against loops of autograd over transformers' own model, and its expectation."""

import json
import math

import numpy as np
import pytest
import torch
from measuring import CODEBOOKS, CODES, TEMPERATURE, add_heads, make_models, measure_recipe

from mergekit_audio import measure
from mergekit_audio.errors import InputError, RecipeError
from mergekit_audio.measure.encoder import span_mask
from mergekit_audio.measure.fisher import diagonal_fisher
from mergekit_audio.measure.sound import clip_stream, prepare_sound
from mergekit_audio.progress import silent
from mergekit_audio.recipe.train_arguments import Masking
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.statistics import open_statistics

FRAMES = 1 + (12_000 - 400) // 320


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = make_models(tmp_path_factory.mktemp("fisher"))
    add_heads(root / "makam")
    return root


def encoder(folder):
    from mergekit_audio.backbones.mert import Mert

    checkpoint = Checkpoint.open(str(folder))
    return Mert().build(checkpoint.config, checkpoint.state_dict(), training=False)


def canonical(name):
    prefix = "parametrizations.weight.original"
    return name.replace(f"{prefix}0", "weight_g").replace(f"{prefix}1", "weight_v")


def log_probabilities(model, heads, wave, mask):
    """Return log p of each code ``[K, N, C]`` by transformers' own masking and plain cosines."""
    model.config.apply_spec_augment = True
    frames = model(wave, mask_time_indices=mask).last_hidden_state[mask]
    embeddings = heads["residual_kmeans.label_embs"]
    projected = (
        frames @ heads["residual_kmeans.final_proj.weight"].T
        + heads["residual_kmeans.final_proj.bias"]
    )
    logs = []
    for k in range(CODEBOOKS):
        queries = projected[:, k * embeddings.shape[2] : (k + 1) * embeddings.shape[2]]
        cosines = (queries @ embeddings[k].T) / (
            queries.norm(dim=1, keepdim=True) * embeddings[k].norm(dim=1)
        )
        logs.append(torch.log_softmax(cosines / TEMPERATURE, dim=1))
    return torch.stack(logs)


def masks_of(seed, count):
    return [
        torch.from_numpy(span_mask(FRAMES, Masking(), clip_stream(3, seed, i)))[None]
        for i in range(count)
    ]


def test_codes_against_loops_of_autograd(project):
    recipe = measure_recipe(project, statistics=["fisher"])
    planned = measure.plan(recipe, project)
    measure.run(planned)
    found = open_statistics(project / "measured")
    model = encoder(project / "makam")
    heads = Checkpoint.open(str(project / "makam" / "heads.safetensors")).state_dict()
    sound = prepare_sound(planned, planned.subjects[0], silent)
    sums = {canonical(name): 0.0 for name, _ in model.named_parameters()}
    for i, mask in enumerate(masks_of(3, 4)):
        wave = torch.from_numpy(sound.waves([sound.clips[i]]))
        logs = log_probabilities(model, heads, wave, mask)
        cumulative = np.cumsum(np.exp(logs.detach().double().numpy()), axis=2)
        levels = clip_stream(4, 3, i).random(logs.shape[:2])
        total = 0.0
        for k in range(CODEBOOKS):
            for n in range(logs.shape[1]):
                code = int(np.searchsorted(cumulative[k, n], levels[k, n] * cumulative[k, n, -1]))
                total = total + logs[k, n, code]
        model.zero_grad()
        total.backward()
        for name, parameter in model.named_parameters():
            sums[canonical(name)] += parameter.grad.double().numpy() ** 2 / 4
    assert set(found.names["fisher"]) == set(sums)
    for name, expected in sums.items():
        values = found.read("fisher", name)
        assert values.shape == expected.shape
        assert np.abs(values - expected).max() <= 2e-4 * expected.max() + 1e-9, name


def test_draws_tend_to_the_expectation_over_codes(project):
    """Over independent codes E_y[(Σ g)²] = Σ_n Σ_k Σ_c p_nkc g_nkc², g being scores of mean 0."""
    recipe = measure_recipe(
        project,
        statistics=["fisher"],
        examples=1,
        fisher={"samples": 600, "masking": {"mask_prob": 0.1, "mask_length": 3, "min_masks": 1}},
    )
    planned = measure.plan(recipe, project)
    sound = prepare_sound(planned, planned.subjects[0], silent)
    model = encoder(project / "makam").requires_grad_(False)
    found = diagonal_fisher(
        model, planned.heads.build("cpu"), sound, recipe.fisher, frame_count=FRAMES, seed=3,
        progress=silent,
    )  # fmt: skip
    heads = Checkpoint.open(str(project / "makam" / "heads.safetensors")).state_dict()
    masking = recipe.fisher.masking
    mask = torch.from_numpy(span_mask(FRAMES, masking, clip_stream(3, 3, 0)))[None]
    model.requires_grad_(True)
    name = "encoder.layers.1.feed_forward.output_dense.weight"
    parameter = dict(model.named_parameters())[name]
    logs = log_probabilities(model, heads, torch.from_numpy(sound.waves(sound.clips[:1])), mask)
    expected = 0.0
    for k in range(CODEBOOKS):
        for n in range(logs.shape[1]):
            for c in range(CODES):
                (score,) = torch.autograd.grad(logs[k, n, c], parameter, retain_graph=True)
                expected = expected + logs[k, n, c].exp().item() * score.double().numpy() ** 2
    ratio = found[name].sum() / expected.sum()
    assert abs(ratio - 1) < 0.15  # 600 draws
    assert np.corrcoef(found[name].ravel(), expected.ravel())[0, 1] > 0.97


def test_gaussian_against_loops_of_autograd(project):
    recipe = measure_recipe(
        project,
        model="lyra",
        statistics=["fisher"],
        examples=2,
        fisher={"distribution": "gaussian", "samples": 2},
        output="gaussian",
    )
    planned = measure.plan(recipe, project)
    measure.run(planned)
    found = open_statistics(project / "gaussian")
    model = encoder(project / "lyra")
    sound = prepare_sound(planned, planned.subjects[0], silent)
    sums = {}
    for i in range(2):
        random = clip_stream(4, 3, i)
        wave = torch.from_numpy(sound.waves([sound.clips[i]]))
        for _ in range(2):
            frames = model(wave).last_hidden_state
            z = torch.from_numpy(random.standard_normal(tuple(frames.shape)).astype(np.float32))
            model.zero_grad()
            (frames * z).sum().backward()
            for name, parameter in model.named_parameters():
                gradient = (
                    np.zeros(1) if parameter.grad is None else parameter.grad.double().numpy()
                )
                sums[canonical(name)] = sums.get(canonical(name), 0.0) + gradient**2 / 4
    for name, expected in sums.items():
        values = found.read("fisher", name)
        assert np.abs(values - expected).max() <= 2e-4 * expected.max() + 1e-9, name
    assert found.read("fisher", "masked_spec_embed").max() == 0  # nothing is masked
    assert found.facts["fisher"]["distribution"] == "gaussian"


def test_the_mask_covers_what_the_settings_say():
    settings = Masking()
    shares = []
    for seed in range(50):
        mask = span_mask(374, settings, np.random.default_rng(seed))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
        assert (edges[1::2] - edges[::2] >= settings.mask_length).all()
        shares.append(mask.mean())
    # 59 or 60 spans of 5 that start anywhere in 369: a frame escapes with (1 − 5/369)^59.8
    assert np.mean(shares) == pytest.approx(1 - (1 - 5 / 369) ** 59.8, abs=0.03)


def test_a_short_clip_has_a_mask_too():
    assert span_mask(6, Masking(min_masks=3), np.random.default_rng(0)).sum() == 5


@pytest.mark.parametrize("missing", ["file", "codes", "lock", "teacher"])
def test_heads_that_are_missing_are_told(project, tmp_path, missing):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (project / "lyra").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    if missing != "file":
        add_heads(folder, lock=missing != "lock")
    if missing == "codes":
        from safetensors.numpy import save_file

        save_file({"cqt.weight": np.zeros((2, 16), np.float32)}, folder / "heads.safetensors")
    if missing == "teacher":
        (folder / "cmerge.lock.json").write_text(json.dumps({"recipe": {"teachers": []}}))
    recipe = measure_recipe(project, model=str(folder), statistics=["fisher"])
    with pytest.raises(InputError) as caught:
        measure.plan(recipe, project)
    assert str(folder) in caught.value.message
    wanted = "temperature=0.1" if missing in ("lock", "teacher") else "distribution: gaussian"
    assert wanted in caught.value.hint
    if missing in ("lock", "teacher"):
        given = measure_recipe(
            project, model=str(folder), statistics=["fisher"], fisher={"temperature": 0.3}
        )
        assert measure.plan(given, project).heads.temperatures == {"residual_kmeans": 0.3}


def test_a_clip_too_short_to_mask_is_a_fault_of_the_recipe(project):
    recipe = measure_recipe(project, statistics=["fisher"], crop_s=0.06)
    with pytest.raises(RecipeError, match=r"crop_s: 0\.06 s has 4 frames; at least 6"):
        measure.plan(recipe, project)
    frames = math.floor(1 + (0.06 * 24_000 - 400) / 320)
    assert frames == 4
