"""Statistics of a model as a merge reads them: by kind and tensor, of one model, undamaged."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from mergekit_audio.errors import InputError
from mergekit_audio.weights.statistics import open_statistics

G = "encoder.pos_conv_embed.conv.weight_g"
TENSORS = {
    "fisher/a.weight": np.ones((2, 3), np.float32),
    f"fisher/{G}": np.full((1, 1, 2), 2.0, np.float32),
    "gram/a.weight": np.eye(3, dtype=np.float32),
}


def write(folder, tensors=TENSORS, facts=None):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model_digest": "abc", "alpha": 0.5}) if facts is None else facts
    save_file(tensors, folder / "statistics.safetensors", metadata={"measured": text})
    return folder


def test_numbers_by_kind_and_tensor(tmp_path):
    found = open_statistics(write(tmp_path / "m"))
    assert found.kinds == ("fisher", "gram")
    assert found.model_digest == "abc"
    assert found.facts["alpha"] == 0.5
    assert (found.read("gram", "a.weight") == np.eye(3)).all()
    assert found.read("fisher", "a.weight").shape == (2, 3)
    assert found.read("gram", "a.bias") is None
    assert found.read("gram_merged", "a.weight") is None
    assert found.files() == [tmp_path / "m" / "statistics.safetensors"]
    assert open_statistics(tmp_path / "m" / "statistics.safetensors") == found


def test_both_spellings_of_a_weight_norm_are_found(tmp_path):
    found = open_statistics(write(tmp_path / "m"))
    spelt = "encoder.pos_conv_embed.conv.parametrizations.weight.original0"
    assert (found.read("fisher", spelt) == found.read("fisher", G)).all()


def test_other_kinds_and_other_models_are_refused(tmp_path):
    found = open_statistics(write(tmp_path / "m"))
    found.require(("gram",), "abc", "runs/makam")
    with pytest.raises(InputError, match="holds fisher, gram, but not gram_merged"):
        found.require(("gram_merged",), "abc", "runs/makam")
    with pytest.raises(InputError, match="content abc, but runs/lyra has def"):
        found.require(("gram",), "def", "runs/lyra")


@pytest.mark.parametrize("facts", ["", "[]", "{}", "{"])
def test_a_file_of_another_kind_is_refused(tmp_path, facts):
    with pytest.raises(InputError, match="says not which model"):
        open_statistics(write(tmp_path / "m", facts=facts))


def test_damage_is_told_with_the_file(tmp_path):
    path = write(tmp_path / "m") / "statistics.safetensors"
    data = path.read_bytes()
    for damaged in (b"", data[:5], data[:200], data[:-1], b"x" * len(data)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"statistics\.safetensors: damaged"):
            open_statistics(tmp_path / "m")


def test_a_file_that_is_cut_later_is_told_too(tmp_path):
    found = open_statistics(write(tmp_path / "m"))
    found.path.write_bytes(found.path.read_bytes()[:-4])
    with pytest.raises(InputError, match="damaged"):
        found.read("gram", "a.weight")


def test_values_that_are_not_finite_are_refused(tmp_path):
    tensors = {"gram/a.weight": np.array([[np.nan]], np.float32)}
    found = open_statistics(write(tmp_path / "m", tensors))
    with pytest.raises(InputError, match=r"gram/a\.weight is not finite"):
        found.read("gram", "a.weight")


def test_a_folder_without_statistics_says_where_some_are(tmp_path):
    write(tmp_path / "measured" / "makam")
    with pytest.raises(InputError, match="several models: makam") as caught:
        open_statistics(tmp_path / "measured")
    assert "measured/makam" in caught.value.hint
    with pytest.raises(InputError, match=r"no statistics\.safetensors") as caught:
        open_statistics(tmp_path / "measurd")
    assert "did you mean 'measured'?" in caught.value.hint
