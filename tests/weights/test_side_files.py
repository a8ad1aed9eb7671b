"""What is carried from a base beside its weights: configs, tokenizer, code, and nothing else."""

import json
from pathlib import Path

import pytest
from checkpoints import make_mert_checkpoint

from mergekit_audio.errors import InputError
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.hub import _BESIDE_THE_WEIGHTS
from mergekit_audio.weights.side_files import copy_side_files, custom_code, side_files

CARRIED = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
]
LEFT = [
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "README.md",
    "cmerge.lock.json",
    "trainer_state.json",
    "training_args.bin",
    "optimizer.pt",
    "stages.jsonl",
    "train.py",
]


def folder_with(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def config(*references: object) -> str:
    names = ("AutoConfig", "AutoModel", "AutoTokenizer")
    return json.dumps({"auto_map": dict(zip(names, references, strict=False))})


def names(root: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_configs_and_tokenizers_are_carried_and_nothing_else(tmp_path: Path) -> None:
    base = folder_with(tmp_path / "base", {name: "{}" for name in [*CARRIED, *LEFT]})
    assert names(base, side_files(base)) == CARRIED
    target = tmp_path / "target"
    target.mkdir()
    assert names(target, copy_side_files(base, target)) == CARRIED
    assert sorted(path.name for path in target.iterdir()) == CARRIED
    assert (target / "vocab.txt").read_text() == "{}"


def test_code_is_carried_with_what_it_imports_from_its_folder(tmp_path: Path) -> None:
    base = folder_with(
        tmp_path,
        {
            "config.json": config("configuration_mert.MERTConfig", "modeling_mert.MERTModel"),
            "tokenizer_config.json": json.dumps({"auto_map": {"X": ["tok.Slow", None]}}),
            "preprocessor_config.json": json.dumps({"auto_map": "features.Extractor"}),
            "configuration_mert.py": "import torch\n",
            "modeling_mert.py": "try:\n    from .cqt import CQT\nexcept ImportError: pass\n",
            "cqt.py": "from . import tables, more\nfrom .parts.one import x\n",
            "tables.py": "from os import path\n",
            "more/__init__.py": "from .deep import y\nfrom ..tables import z\nfrom . import name\n",
            "more/deep.py": "",
            "parts/one.py": "",
            "tok.py": "",
            "features.py": "",
            "unused.py": "from .nowhere import x",
            "train.py": "",
        },
    )
    assert names(base, custom_code(base)) == [
        "configuration_mert.py",
        "cqt.py",
        "features.py",
        "modeling_mert.py",
        "more/__init__.py",
        "more/deep.py",
        "parts/one.py",
        "tables.py",
        "tok.py",
    ]
    target = tmp_path / "target"
    target.mkdir()
    copy_side_files(base, target)
    assert (target / "more/deep.py").is_file()
    assert not (target / "unused.py").exists()


def test_links_of_the_hubs_cache_become_files(tmp_path: Path) -> None:
    blob = folder_with(tmp_path, {"blobs/1": "{}"}) / "blobs/1"
    snapshot = tmp_path / "snapshot"
    target = tmp_path / "target"
    for folder in (snapshot, target):
        folder.mkdir()
    (snapshot / "config.json").symlink_to(blob)
    copy_side_files(snapshot, target)
    assert not (target / "config.json").is_symlink()


def test_another_repos_code_is_the_hubs_business(tmp_path: Path) -> None:
    base = folder_with(tmp_path, {"config.json": config("m-a-p/MERT-v1-95M--modeling.MERT")})
    assert names(base, side_files(base)) == ["config.json"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": config("modeling.M")}, r"modeling\.py: not in the model's folder"),
        ({"config.json": config("../modeling.M")}, "expected module.Class"),
        ({"config.json": config("M")}, "expected module.Class"),
        ({"config.json": config("m.M"), "m.py": "from ..x import y"}, "outside the model's"),
        (
            {"config.json": config("m.M"), "m.py": "from .x import y"},
            r"x\.py: not in .*m\.py asks",
        ),
        ({"config.json": config("m.M"), "m.py": "def"}, "not Python"),
        ({"config.json": "[]"}, "expected a JSON object"),
    ],
)
def test_folders_without_their_code_are_refused(tmp_path: Path, files, message) -> None:
    base = folder_with(tmp_path, files)
    with pytest.raises(InputError, match=message) as caught:
        side_files(base)
    assert caught.value.hint
    (base / "config.json").rename(base / "tokenizer_config.json")
    assert names(base, side_files(base, complete=False)) == ["tokenizer_config.json"]


def test_a_lock_names_all_that_is_carried_and_copes_with_gaps(tmp_path: Path) -> None:
    base = make_mert_checkpoint(tmp_path / "base")
    (base / "README.md").write_text("")
    (base / "tokenizer.json").write_text("{}")
    (base / "tokenizer_config.json").write_text(config("tok.Slow"))
    carried = ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
    checkpoint = Checkpoint.open(str(base))
    assert names(base, checkpoint.files()) == sorted([*carried, "model.safetensors"])
    (base / "tok.py").write_text("")
    assert names(base, checkpoint.files()) == sorted([*carried, "model.safetensors", "tok.py"])


def test_the_hub_is_asked_for_all_of_them() -> None:
    from huggingface_hub.utils import filter_repo_objects

    files = [*CARRIED, "modeling_mert.py", "README.md", "adapter_config.json", "optimizer.pt"]
    kept = list(filter_repo_objects(files, allow_patterns=list(_BESIDE_THE_WEIGHTS)))
    assert kept == files[:-1]
