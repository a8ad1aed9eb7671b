"""The EnCodec teacher on a small EncodecModel of its own, saved to a folder with spread codes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EncodecConfig, EncodecModel

from mergekit_audio.errors import InputError
from mergekit_audio.teachers.encodec import Encodec

SMALL = {
    "num_filters": 4,
    "hidden_size": 16,
    "codebook_size": 32,
    "num_lstm_layers": 1,
    "target_bandwidths": [1.5, 3.0],
}


def noise(seed, samples=24_000, batch=1):
    return 0.3 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def small_encodec(**changes):
    """Return a random EnCodec whose codes spread: each codebook holds residuals of real frames."""
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(**SMALL | changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        seconds = max(1, model.config.codebook_size // 256)
        residual = model.encoder(
            noise(0, seconds * 24_000, batch=4)
            .unsqueeze(1)
            .expand(-1, model.config.audio_channels, -1)
        )
        residual = residual.transpose(1, 2).flatten(0, 1)
        for layer in model.quantizer.layers:
            chosen = torch.randperm(len(residual), generator=generator)[
                : layer.codebook.codebook_size
            ]
            layer.codebook.embed.copy_(residual[chosen])
            residual = residual - layer.codebook.embed[layer.codebook.quantize(residual)]
    return model


@pytest.fixture(scope="module")
def model():
    return small_encodec()


@pytest.fixture(scope="module")
def root(tmp_path_factory, model):
    root = tmp_path_factory.mktemp("encodec")
    model.save_pretrained(root / "small")
    return root


def test_codes_are_those_of_encodec(model, root):
    wave = noise(7, 24_100, batch=2)
    codes = Encodec(model="small").open(None, root=root).targets(wave)
    with torch.no_grad():
        expected = model.encode(wave.unsqueeze(1), bandwidth=3.0).audio_codes
    assert expected.shape == (1, 2, 8, 76)
    assert codes.shape == (2, 75, 8)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, expected[0].transpose(1, 2)[:, :75])
    assert all(len(codes[..., k].unique()) > 5 for k in range(8))


def test_the_bandwidth_of_6_kbps_is_passed(tmp_path, monkeypatch):
    """EncodecModel's default is the lowest bandwidth, 1.5 kbps with 2 codebooks."""
    bandwidths = [1.5, 3.0, 6.0, 12.0, 24.0]
    model = small_encodec(codebook_size=1024, target_bandwidths=bandwidths)
    model.save_pretrained(tmp_path / "released")
    teacher = Encodec(model="released").open(None, root=tmp_path)
    assert teacher.model.config.num_quantizers == 32
    passed = []
    encode = teacher.model.encode
    monkeypatch.setattr(
        teacher.model,
        "encode",
        lambda *given, **named: passed.append(named) or encode(*given, **named),
    )
    codes = teacher.targets(noise(7, 24_000))
    assert passed == [{"bandwidth": 6.0}]
    assert codes.shape == (1, 74, 8)
    with torch.no_grad():
        default = model.encode(noise(7, 24_000).unsqueeze(1)).audio_codes
        explicit = model.encode(noise(7, 24_000).unsqueeze(1), bandwidth=6.0).audio_codes
    assert default.shape == (1, 1, 2, 75)
    assert torch.equal(codes[0], explicit[0, 0].T[:74])
    assert Encodec(model="released", codebooks=32).open(None, root=tmp_path).bandwidth == 24.0


@pytest.mark.parametrize("codebooks", [1, 3, 4, 5])
def test_fewer_codebooks_are_the_first_ones(root, codebooks):
    every = Encodec(model="small").open(None, root=root).targets(noise(2))
    some = Encodec(model="small", codebooks=codebooks).open(None, root=root)
    assert torch.equal(some.targets(noise(2)), every[..., :codebooks])
    assert tuple(some.head(24).label_embs.shape) == (codebooks, 32, 64)


def test_rows_of_fairseq_dictionaries_shift_the_codes(root):
    plain = Encodec(model="small").open(None, root=root)
    shifted = Encodec(model="small", special_rows=4).open(None, root=root)
    assert torch.equal(shifted.targets(noise(2)), plain.targets(noise(2)) + 4)
    assert tuple(shifted.head(24).label_embs.shape) == (8, 36, 64)
    assert shifted.digest != plain.digest


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (719, 1), (720, 2), (120_000, 374)])
def test_as_many_frames_as_the_backbone(root, samples, frames):
    teacher = Encodec(model="small").open(None, root=root)
    assert teacher.targets(noise(1, samples)).shape == (1, frames, 8)


def test_codes_and_digest_repeat_and_follow_the_weights(model, root):
    one, two = (Encodec(model="small").open(None, root=root) for _ in range(2))
    assert torch.equal(one.targets(noise(3)), two.targets(noise(3)))
    assert one.digest == two.digest
    state = load_file(root / "small" / "model.safetensors")
    state["quantizer.layers.0.codebook.embed"][0, 0] += 1.0
    copy_with(root, "changed", state)
    assert Encodec(model="changed").open(None, root=root).digest != one.digest


def test_the_released_spelling_of_weight_norms_loads(root):
    state = load_file(root / "small" / "model.safetensors")
    released = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in state.items()
    }
    copy_with(root, "released", released)
    old, new = (Encodec(model=name).open(None, root=root) for name in ("released", "small"))
    assert torch.equal(old.targets(noise(3)), new.targets(noise(3)))
    assert old.digest == new.digest


def test_the_codec_is_frozen_and_only_the_head_learns(root):
    teacher = Encodec(model="small", final_size=8).open(None, root=root)
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not teacher.model.training
    head = teacher.head(12)
    codes = teacher.targets(noise(3))[0]
    loss, sums = teacher.loss(head, torch.randn(len(codes), 12), codes)
    loss.backward()
    assert set(sums) == {f"{n}_{k}" for n in ("cross_entropy", "accuracy") for k in range(8)}
    assert all(p.grad is not None for p in head.parameters())


def test_loading_says_nothing(root, capfd):
    Encodec(model="small").open(None, root=root)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_codec_that_does_not_fit_is_refused(model, root):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        Encodec(model="nowhere").open(None, root=root)
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="empty: can't load an EnCodec model"):
        Encodec(model="empty").open(None, root=root)
    with pytest.raises(InputError, match="has 8 codebooks, the recipe asks for 9"):
        Encodec(model="small", codebooks=9).open(None, root=root)
    state = load_file(root / "small" / "model.safetensors")
    name = "encoder.layers.0.conv.bias"
    copy_with(root, "less", {key: value for key, value in state.items() if key != name})
    with pytest.raises(InputError, match=rf"missing keys: {name}"):
        Encodec(model="less").open(None, root=root)
    copy_with(root, "more", state | {"head.weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"unexpected keys: head\.weight"):
        Encodec(model="more").open(None, root=root)
    cut = root / "cut"
    copy_with(root, "cut", state)
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-50])
    with pytest.raises(InputError, match="cut: can't load an EnCodec model"):
        Encodec(model="cut").open(None, root=root)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"sampling_rate": 48_000}, r"\(48000, 320, 1, False, None\)"),
        ({"normalize": True}, r"\(24000, 320, 1, True, None\)"),
        ({"chunk_length_s": 1.0, "overlap": 0.01}, r"\(24000, 320, 1, False, 1.0\)"),
        ({"upsampling_ratios": [8, 5, 4, 4]}, r"\(24000, 640, 1, False, None\)"),
    ],
)
def test_codecs_of_other_frames_are_refused(root, change, found):
    folder = copy_with(root, "other", load_file(root / "small" / "model.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=found):
        Encodec(model="other").open(None, root=root)


def copy_with(root, name, state):
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text((root / "small" / "config.json").read_text())
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder
