"""The report alone says which λ, whom it helps and hurts and how sure, and stands on its own."""

import copy
import itertools
import re
from html.parser import HTMLParser

import pytest
import yaml
from report_cases import (
    told_evaluation,
    told_geometry,
    told_label_free,
    told_landscape,
    told_lock,
    told_similarity,
    told_sweep,
)
from summaries import sweep_summary

from mergekit_audio.recipe.load import from_dict
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.report.html import write_report
from mergekit_audio.report.page.advice import merge_recipe
from mergekit_audio.report.page.ways import found_ways

VOID = {"meta", "br", "hr", "link", "img", "input"}


class Page(HTMLParser):
    """Reads a page: every tag is closed in order; ids, links, headings and drawings are kept."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.headings, self.tags = [], [], [], [], []
        self.named, self.text = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        held = dict(attributes)
        self.tags.append((tag, held))
        if "id" in held:
            self.ids.append(held["id"])
        self.links += [held[key] for key in ("href", "src", "xlink:href", "data") if key in held]
        self.named += held.get("aria-labelledby", "").split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings.append((int(self.open[-1][1]), data))

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def written(tmp_path, summary, **given):
    return write_report(tmp_path / "report.html", summary, **given).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The report with every section."""
    return written(
        tmp_path_factory.mktemp("whole"),
        told_label_free(),
        landscape=told_landscape(),
        similarity=told_similarity(),
        geometry=told_geometry(),
        made=told_lock(),
        facts={"wall time": "3 min"},
    )


CASES = {
    "sweep": told_sweep,
    "old sweep": sweep_summary,
    "evaluation": told_evaluation,
    "landscape": told_landscape,
    "label-free": told_label_free,
}


@pytest.mark.parametrize("case", [*CASES, "whole"])
def test_the_page_is_whole_and_loads_nothing(tmp_path, whole, case):
    text = whole if case == "whole" else written(tmp_path, CASES[case]())
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)
    assert set(page.named) <= set(page.ids)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "image"}
    assert {"main", "nav", "header", "footer", "title"} <= tags
    assert "url(" not in text
    assert "@import" not in text
    assert not [name for _, held in page.tags for name in held if name.startswith("on")]
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for tag, held in page.tags:
        if tag == "svg":
            assert held.get("aria-hidden") == "true" or held["role"] == "img"
        if tag == "th":
            assert "scope" in held
    assert text.count("<caption>") == text.count("<table")
    assert "nan" not in re.findall(r'(?:x|y|cx|cy|points)="([^"]*)"', text)


def test_every_section_is_there(whole):
    titles = [title for level, title in Page(whole).headings if level == 2]
    assert titles == [
        "Which λ, and how sure",
        "Which cultures it helps or hurts",
        "What to do next",
        "Scores against λ",
        "The landscape of λ",
        "Pareto front",
        "Without labels, and beside them",
        "Transfer between cultures",
        "How alike the corpora sound",
        "Scores of all models",
        "Each category of labels",
        "Task vectors",
        "Tasks",
        "This run",
    ]


def test_the_same_summary_gives_the_same_bytes(tmp_path, whole):
    again = written(
        tmp_path,
        told_label_free(),
        landscape=told_landscape(),
        similarity=told_similarity(),
        geometry=told_geometry(),
        made=told_lock(),
        facts={"wall time": "3 min"},
    )
    assert again == whole


def test_the_answer_is_told_in_words(tmp_path):
    words = Page(written(tmp_path, told_sweep())).words
    assert "Use λ = 0.25" in words
    assert "▲ sure: better than the base on test" in words
    assert "it is +5.8 points beside the base on average (95 % interval +2.0 to +9.0)" in words
    assert "▲ Helps: makam (sure)" in words
    assert "▼ Hurts: western (probably)" in words
    assert "any λ of 0.25 to 0.5 may be as good. The base is not among them." in words
    assert "select.objective=mean(all) subject to western >= base - 0.5" in words


def test_what_is_not_sure_is_not_told_as_sure(tmp_path):
    summary = told_sweep()
    for each in summary["differences"]["entries"]:
        each.update(bca=[-0.01, each["difference"] + 0.05], holm_p=1.0)
    summary["selection"]["band"]["members"].append("base")
    words = Page(written(tmp_path, summary)).words
    assert "≈ not sure: can't be told apart from the base on test" in words
    assert "the interval holds 0, so a gain is not shown" in words
    # the interval reaches from 5.75 points to -1: (6.75 / 5.75)² = 1.4 times the tracks
    assert "about 1 times as many test tracks would show it" in words
    assert "the careful choice is to keep the base" in words
    assert "▲ Helps: none" in words


def test_a_base_that_is_best_is_kept(tmp_path):
    summary = told_sweep()
    summary["selection"].update(row="base", scale=0.0)
    summary["selection"]["band"]["members"] = ["base"]
    words = Page(written(tmp_path, summary)).words
    assert "Keep the base model (λ = 0)" in words
    assert "there is nothing to merge" in words
    assert "weight average (λ = 0.5), beside base:" in words


def test_without_a_bootstrap_no_sureness_is_told(tmp_path):
    words = Page(written(tmp_path, sweep_summary())).words
    assert "how sure: not known" in words
    assert re.search(r"\+5\.[78] points beside the base on average; without a bootstrap", words)
    assert "sure: better" not in words
    assert "resamples=10000" in words


def test_an_evaluation_names_the_best_and_its_distance(tmp_path):
    words = Page(written(tmp_path, told_evaluation())).words
    # means of four scores: multi-cultural 58.25, base 55, makam 54.5; the second seed is 4 higher
    assert "Highest average: multi-cultural" in words
    assert "multi-cultural: 60.2 on average on the test split, +5.8 points beside base" in words
    assert "What to do next" not in words


def test_names_from_files_are_escaped(tmp_path):
    evil = '<script>alert("1")</script>'
    summary = told_sweep()
    for row in summary["rows"]:
        for held in (row["scores"], row["labels"]):
            held[evil] = held.pop("makam")
    summary["tasks"][0]["name"] = evil
    summary["cultures"][0]["name"] = evil
    for each in summary["differences"]["entries"]:
        each["task"] = evil if each["task"] == "makam" else each["task"]
    geometry = told_geometry()
    geometry["relations"]["models"][0] = evil
    similarity = told_similarity()
    similarity["corpora"][0]["name"] = evil
    text = written(
        tmp_path, summary, title=evil, notes=[evil], geometry=geometry, similarity=similarity
    )
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    Page(text)


def test_the_recipe_makes_the_chosen_merge(tmp_path):
    found = merge_recipe(told_sweep(), told_lock())
    assert found["scale"] == 0.25
    assert [(each["model"], each["weight"]) for each in found["models"]] == [
        ("models/makam", 1.0),
        ("models/lyra", 2.0),
    ]
    recipe = from_dict(found, tmp_path)
    assert isinstance(recipe, MergeRecipe)
    text = Page(written(tmp_path, told_sweep(), made=told_lock())).words
    assert "cmerge merge best.yaml" in text
    several = told_landscape()
    several["selection"].update(row="λ: makam 0.5, lyra 1", scales={"makam": 0.5, "lyra": 1.0})
    made = told_lock()
    made["recipe"]["space"] = "per_culture"
    found = merge_recipe(several, made)
    assert (found["scale"], [each["weight"] for each in found["models"]]) == (1.0, [0.5, 2.0])
    assert yaml.safe_load(yaml.safe_dump(found)) == found


def test_the_figures_have_their_numbers_below(whole):
    page = Page(whole)
    # goal of λ = 1 on validation: base of 45 + 2 (gain) + 2 (mean of seeds) = 49; the chosen 64.75
    assert "44.75 to 54.75" in page.words  # 64.75 less the interval of 10 to 20 points
    drawings = [held for tag, held in page.tags if tag == "svg" and held.get("role") == "img"]
    assert len(drawings) == len({held["aria-labelledby"] for held in drawings}) >= 10
    for tag in ("title", "desc"):
        assert sum(each == tag for each, _ in page.tags) >= len(drawings)


def test_the_landscape_shows_the_best_of_each_pair(tmp_path):
    words = Page(written(tmp_path, told_landscape())).words
    assert "Use the model makam as it is" in words
    assert "Best goal in points: λ of makam across, of lyra down" in words
    assert "λ of lyra 0 0.5 1 0 50.50 55.50 60.50 0.5 48.00 53.00 58.00" in words
    assert "The best cell holds λ of makam = 1, of lyra = 0 with 60.50 points." in words
    assert "3 points of the front" in words


def test_the_cell_of_the_chosen_point_is_framed_though_another_point_is_its_best(tmp_path):
    summary = told_landscape()
    curve, chosen = summary["selection"]["curve"], "λ: makam 0.5, lyra 0.5"
    point = next(each for each in curve if each["row"] == chosen)
    curve.append({**point, "row": "λ: makam 1, lyra 0.5", "valid": {"mean": 0.7}})
    summary["selection"].update(row=chosen, scales=point["scales"])
    frames = [
        held
        for tag, held in Page(written(tmp_path, summary)).tags
        if tag == "rect" and held.get("class") == "cell chosen"
    ]
    # the middle one of 3 by 3 cells: x from 52 to 280, y from 220 up to 12
    assert [(float(held["x"]), float(held["y"])) for held in frames] == [
        (pytest.approx(128), pytest.approx(81.3, abs=0.1))
    ]


def test_ways_without_labels_are_measured_against_those_with(whole):
    words = Page(whole).words
    assert (
        "Label-free (shared): not told apart from the base, +2.0 points beside base "
        "(-1.0 to +5.0)".replace("-1.0", "−1.0")
        in words
    )
    # λ = 0.5 less λ = 0.25 on test: (66 + 45 + 66 + 45 - 70 - 55 - 69 - 49) / 4 = -5.25
    assert "−5.2 points beside the best choice with labels, one λ" in words


def test_ways_of_other_probes_do_not_stand_side_by_side():
    first, second = told_sweep(), told_label_free()
    for order, summary in enumerate((first, second)):
        for task in summary["tasks"]:
            task["digest"] = f"{task['name']} {order}"
        for row in summary["rows"]:
            row["digest"] = f"{row['name']} {order}"
    titles = ["label-free (shared)", "similarity (west)"]
    found = found_ways(first, second)
    assert {id(held) for _, _, held in found} == {id(second)}
    assert [title for title, _, _ in found] == ["with labels, one λ", *titles, "weight average"]
    twin = copy.deepcopy(next(row for row in second["rows"] if row["kind"] == "culture"))
    chosen = next(row for row in first["rows"] if row["name"] == first["selection"]["row"])
    second["rows"].append({**twin, "name": "one λ", "digest": chosen["digest"]})
    with_labels = found_ways(first, second)[0][1]
    assert (with_labels["name"], with_labels["scale"]) == ("one λ", first["selection"]["scale"])
    for order in (0, 1):
        second["tasks"][order]["digest"] = first["tasks"][order]["digest"]
    assert {id(held) for _, _, held in found_ways(first, second)} == {id(first), id(second)}


def test_the_lock_is_told(whole):
    words = Page(whole).words
    assert "a" * 64 in words
    assert "cultures.lyra models/lyra" in words
    assert "python 3.12, torch 2.0" in words
    assert "wall time 3 min" in words
    assert "features extracted 8 models and merges, each on 2 tasks" in words
