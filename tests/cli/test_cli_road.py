"""Each engine's command on small inputs: prepare, train, evaluate, sweep; demo's own options."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pretraining
import probing
import pytest
import yaml
from commands import Done
from recordings import cut, write_recording

from mergekit_audio import demo as demo_engine


def write_recipe(folder: Path, recipe: Any, name: str) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    return path


class TestPrepare:
    """``cmerge data prepare``."""

    @pytest.fixture(autouse=True)
    def _recordings(self, tmp_path: Path) -> None:
        for name in ("a.flac", "b.ogg", "c.mp3"):
            write_recording(
                tmp_path / "music" / name, duration_s=2.0, frequency_hz=300 + ord(name[0])
            )
        cut(write_recording(tmp_path / "music/torn.flac", duration_s=2.0, frequency_hz=900))
        write_recording(tmp_path / "music/short.wav", duration_s=0.2)

    def test_recordings_are_prepared_and_what_is_left_out_is_listed(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        done = cmerge("data", "prepare", "music", "--store", "store", "--workers", "2")
        assert done.code == 0
        assert "tracks: 3\n" in done.out
        assert "could not be decoded: 1\n" in done.out
        assert "torn.flac" in done.out
        assert "too short: 1\n" in done.out
        last = done.err.splitlines()[-1]
        assert last.startswith("prepared 3 recordings, 0.00 h -> store in ")
        assert "next: give music as `corpus` and store as `store`" in last

    def test_json_has_the_whole_report(self, cmerge: Callable[..., Done]) -> None:
        value = json.loads(cmerge("data", "prepare", "music", "--json", "--quiet").out)
        assert value["tracks"] == 3
        assert value["counts"]["undecodable"] == 1
        assert [each["id"] for each in value["report"]["undecodable"]] == ["torn"]
        assert value["hours"] == pytest.approx(6 / 3600, rel=0.02)

    def test_a_dry_run_lists_and_decodes_nothing(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        value = json.loads(cmerge("data", "prepare", "music", "--dry-run", "--json", "-q").out)
        assert value["ids"] == ["a", "b", "c", "short", "torn"]
        assert value["tracks_without_tags"] == 5
        assert [path.name for path in tmp_path.iterdir()] == ["music"]

    def test_no_recordings_are_an_input_error(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        assert cmerge("data", "prepare", "empty", "-q").code == 4
        assert cmerge("data", "prepare", "nowhere", "-q").code == 4


class TestTrain:
    """``cmerge train-culture`` and ``cmerge train-multi``."""

    @pytest.fixture(autouse=True)
    def _project(self, tmp_path: Path) -> None:
        pretraining.make_project(tmp_path)

    def test_a_culture_is_trained_into_a_locked_model(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        write_recipe(tmp_path, pretraining.make_recipe(), "makam.yaml")
        done = cmerge("train-culture", "makam.yaml", "--set", "stages[0].steps=2")
        assert done.code == 0, done.err
        assert done.out == ""
        last = done.err.splitlines()[-1]
        assert last.startswith("trained makam for 7 steps -> out in ")
        lock = json.loads((tmp_path / "out/cmerge.lock.json").read_text())
        assert lock["overrides"] == ["stages[0].steps=2"]
        assert lock["command"] == "cmerge train-culture makam.yaml --set 'stages[0].steps=2'"
        assert cmerge("verify", "out", "-q").code == 0
        assert cmerge("train-culture", "makam.yaml", "-q").code == 4

    def test_a_dry_run_shows_what_each_stage_trains(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        write_recipe(tmp_path, pretraining.make_recipe(), "makam.yaml")
        before = sorted(path.name for path in tmp_path.rglob("*"))
        done = cmerge("train-culture", "makam.yaml", "--dry-run", "--json", "-q")
        assert done.code == 0
        assert [stage["steps"] for stage in json.loads(done.out)["stages"]] == [4, 5]
        assert "stages:\n" in cmerge("train-culture", "makam.yaml", "--dry-run", "-q").out
        assert sorted(path.name for path in tmp_path.rglob("*")) == before

    def test_each_command_takes_its_own_number_of_cultures(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        write_recipe(tmp_path, pretraining.make_recipe(), "one.yaml")
        several = pretraining.make_recipe(corpus={"makam": "makam", "lyra": "western"})
        path = write_recipe(tmp_path, several, "several.yaml")
        line = path.read_text().splitlines().index("corpus:") + 2
        done = cmerge("train-culture", "several.yaml", "-q")
        assert done.code == 3
        assert done.err == (
            f"several.yaml:{line}:3: corpus: train-culture takes one corpus, found 2: lyra, makam\n"
            "\nhint: run: cmerge train-multi several.yaml\n"
        )
        done = cmerge("train-multi", "one.yaml", "-q")
        assert done.code == 3
        assert "train-multi takes several corpora as `culture: source`, found one" in done.err
        assert cmerge("train-multi", "several.yaml", "--dry-run", "-q").code == 0


class TestProbing:
    """``cmerge evaluate`` and ``cmerge sweep-lambda``."""

    @pytest.fixture(autouse=True)
    def _models(self, tmp_path: Path) -> None:
        probing.write_models(tmp_path)
        probing.write_corpus(tmp_path / "corpora" / "tones", seed=1)
        probing.write_corpus(tmp_path / "corpora" / "west", seed=2)

    def test_models_are_evaluated(self, cmerge: Callable[..., Done], tmp_path: Path) -> None:
        write_recipe(tmp_path, probing.evaluate_recipe(tmp_path), "evaluate.yaml")
        dry = cmerge("evaluate", "evaluate.yaml", "--dry-run", "--json", "-q")
        assert json.loads(dry.out)["points"] == 4
        assert not (tmp_path / "results").exists()
        done = cmerge("evaluate", "evaluate.yaml", "--set", "seeds=[0]", "--workers", "1")
        assert done.code == 0, done.err
        assert done.out == (tmp_path / "results/table.txt").read_text()
        assert done.err.splitlines()[-1].startswith("probed 2 models on 1 task -> results in ")
        again = cmerge("evaluate", "evaluate.yaml", "--force", "--json", "-q")
        assert json.loads(again.out)["summary"] == json.loads(
            (tmp_path / "results/summary.json").read_text()
        )

    def test_lambda_is_swept(self, cmerge: Callable[..., Done], tmp_path: Path) -> None:
        write_recipe(tmp_path, probing.sweep_recipe(tmp_path), "sweep.yaml")
        dry = cmerge("sweep-lambda", "sweep.yaml", "--dry-run", "-q")
        assert dry.code == 0, dry.err
        assert "scales:\n" in dry.out
        changes = ["--set", "seeds=[0]", "--set", "write_best=true", "--workers", "1"]
        done = cmerge("sweep-lambda", "sweep.yaml", *changes)
        assert done.code == 0, done.err
        assert done.out == (tmp_path / "results/table.txt").read_text()
        last = done.err.splitlines()[-1]
        best = json.loads((tmp_path / "results/summary.json").read_text())["selection"]["scale"]
        start = f"swept 4 points, best on validation: λ = {best:g}"
        assert last.startswith(start)
        assert last.endswith("next: cmerge verify results/best")
        assert cmerge("verify", "results/best", "-q").code == 0
        assert cmerge("sweep-lambda", "sweep.yaml", "-q").code == 4


class TestDemo:
    """``cmerge demo``; what it does is tested with the demo itself."""

    def test_a_dry_run_says_what_it_would_do(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        done = cmerge("demo", "--quick", "--dry-run", "--json", "-q")
        value = json.loads(done.out)
        assert value["synthetic_recordings"]["tracks_each"] == demo_engine.QUICK.tracks
        assert value["folder_exists"] is False
        assert list(tmp_path.iterdir()) == []
        assert "  - demo/base\n" in cmerge("demo", "--dry-run", "-q").out

    def test_options_reach_the_engine_and_the_table_comes_out(
        self, cmerge: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from summaries import sweep_summary

        calls = []

        def run_demo(folder: Path, **keywords: Any) -> demo_engine.DemoResult:
            calls.append((folder, keywords))
            return demo_engine.DemoResult(folder, folder / "report.html", sweep_summary(), 61.0)

        monkeypatch.setattr(demo_engine, "run_demo", run_demo)
        done = cmerge("demo", "here", "--quick", "--workers", "3", "--no-progress")
        assert done.code == 0, done.err
        assert calls[0][0] == Path("here")
        progress = calls[0][1].pop("progress")
        assert callable(progress)
        assert calls[0][1] == {"quick": True, "force": False, "workers": 3}
        assert done.out.startswith("|")
        assert done.out.endswith("\nreport: here/report.html\n")
        assert done.err == "demo done -> here in 1 min 01 s; next: open here/report.html\n"
