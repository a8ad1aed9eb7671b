"""``cmerge data ls``, ``info`` and ``import``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done, environment
from raw_corpora import write_makam
from recordings import cut, write_recording

from mergekit_audio.datasets.base import PublicDataset
from mergekit_audio.registry import discover

PUBLIC = [name for name, kind in discover("datasets").items() if issubclass(kind, PublicDataset)]


def test_ls_lists_every_dataset(cmerge: Callable[..., Done]) -> None:
    done = cmerge("data", "ls")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == list(discover("datasets"))
    rows = {row["name"]: row for row in json.loads(cmerge("data", "ls", "--json").out)}
    assert rows["makam"]["recordings"] == 5_297
    assert rows["makam"]["labels"] == 30
    assert rows["mtat_full"]["licence"] == "CC-BY-NC-SA-3.0"
    assert rows["synthetic"]["labels"] is None


@pytest.mark.parametrize("name", PUBLIC)
def test_info_says_terms_sources_and_labels(cmerge: Callable[..., Done], name: str) -> None:
    done = cmerge("data", "info", name)
    assert (done.code, done.err) == (0, "")
    value = json.loads(cmerge("data", "info", name, "--json").out)
    for key in ("license", "citation", "terms", "about", "kind", "culture"):
        assert value[key], key
        assert value[key] in done.out
    assert value["terms"].startswith(("http", "none"))
    assert value["fetch"]
    for source in value["fetch"]:
        assert source["from"] in done.out
        assert source["place"]
    assert value["labels"] == sorted(set(value["labels"]))
    assert value["import"] == f"cmerge data import {name} RAW_FOLDER -o FOLDER"
    assert all(label in done.out for label in value["labels"])


def test_info_knows_the_synthetic_corpus_and_no_other_names(cmerge: Callable[..., Done]) -> None:
    assert "CC0-1.0" in cmerge("data", "info", "synthetic").out
    done = cmerge("data", "info", "makan")
    assert done.code == 2
    assert "did you mean 'makam'?" in done.err


def test_ls_and_info_load_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mergekit_audio.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = [n for n in ('torch', 'numpy', 'soundfile') if n in sys.modules]\n"
        "    sys.stderr.write(','.join(heavy))\n"
    )
    for words in (["data", "ls"], ["data", "info", "lyra"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""


class TestImport:
    """``cmerge data import``."""

    @pytest.fixture(autouse=True)
    def _raw(self, tmp_path: Path) -> None:
        write_makam(tmp_path / "raw")

    def test_a_corpus_is_imported_and_its_differences_are_listed(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        cut(next((tmp_path / "raw/audios").iterdir()))
        done = cmerge("data", "import", "makam", "raw", "-o", "data/makam", "--workers", "2")
        assert done.code == 0
        assert "train       3709       5" in done.out
        assert "audio can't be read: 1\n" in done.out
        assert "labels that the tag rule chooses differently from these files: 24\n" in done.out
        assert "  and 19 more\n" in done.out
        last = done.err.splitlines()[-1]
        assert last.startswith("imported 7 recordings -> data/makam in ")
        assert "next: read data/makam/report.json; give data/makam as `corpus`" in last

    def test_the_folder_is_a_corpus(self, cmerge: Callable[..., Done], tmp_path: Path) -> None:
        for number, path in enumerate(sorted((tmp_path / "raw/audios").iterdir())):
            write_recording(path, duration_s=1.5, frequency_hz=200 + 40 * number)
        assert cmerge("data", "import", "makam", "raw", "-o", "made").code == 0
        value = json.loads(cmerge("data", "prepare", "made", "--json", "-q").out)
        assert value["tracks"] == 8

    def test_json_is_the_report_and_the_same_the_second_time(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        first = cmerge("data", "import", "makam", "raw", "-o", "made", "--json", "-q")
        value = json.loads(first.out)
        assert value["splits"]["test"] == {"published": 1059, "listed": 2, "usable": 2}
        assert value["counts"]["missing_audio"] == 0
        assert first.err == ""
        saved = json.loads((tmp_path / "made/report.json").read_text(encoding="utf-8"))
        assert {"folder": "made", **saved} == value
        assert cmerge("data", "import", "makam", "raw", "-o", "made", "--json", "-q") == first

    def test_a_dry_run_writes_nothing(self, cmerge: Callable[..., Done], tmp_path: Path) -> None:
        done = cmerge("data", "import", "makam", "raw", "-o", "made", "--dry-run")
        assert done.code == 0
        assert "nothing was written" in done.err
        assert not (tmp_path / "made").exists()
        assert "usable" in done.out

    def test_all_faults_of_the_metadata_are_shown(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        (tmp_path / "raw/split/train.npy").unlink()
        (tmp_path / "raw/metadata.json").write_text("[")
        done = cmerge("data", "import", "makam", "raw", "-o", "made")
        assert done.code == 4
        assert "raw/split/train.npy: no such file" in done.err
        assert "raw/metadata.json:1: is not JSON" in done.err
        assert "hint: " in done.err
        assert not (tmp_path / "made").exists()

    def test_the_synthetic_corpus_is_not_imported(self, cmerge: Callable[..., Done]) -> None:
        done = cmerge("data", "import", "synthetic", "raw", "-o", "made")
        assert done.code == 2
        assert "is made, not imported" in done.err
        assert "makam" in done.err
