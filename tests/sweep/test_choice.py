"""Choices of λ: objectives, ties, the band of equal λ; the points of a space and their order."""

import numpy as np
import pytest
from probing import sweep_recipe
from summaries import spread, sweep_summary

from mergekit_audio.recipe.sweep import Select
from mergekit_audio.report.statement import selection_sentences
from mergekit_audio.report.tables import table_rows
from mergekit_audio.sweep.band import indistinguishable, runs_of
from mergekit_audio.sweep.selection import choose, select_scale
from mergekit_audio.sweep.spaces import early_order, make_space

TASKS = ["makam", "western"]
GROUPS = {"all": TASKS, "western": ["western"], "non_western": ["makam"]}


def row_of(away, makam, western, **changes):
    scores = {
        task: {"valid": {metric: spread([value]) for metric in ("roc_auc", "average_precision")}}
        for task, value in (("makam", makam), ("western", western))
    }
    return {
        "name": f"λ = {away:g}" if away else "base",
        "kind": "merge" if away else "base",
        "scale": away,
        "weight_average": False,
        "in_grid": True,
        "scores": scores,
        **changes,
    }


ROWS = [row_of(0.0, 0.60, 0.70), row_of(0.2, 0.65, 0.698), row_of(0.4, 0.70, 0.68)]


def test_a_constraint_rules_out_what_is_best_without_it():
    free = Select(objective="mean(non_western)")
    bound = Select(objective="mean(non_western) subject to western >= base - 0.5")
    assert choose(ROWS, free, TASKS, GROUPS) == "λ = 0.4"
    assert choose(ROWS, bound, TASKS, GROUPS) == "λ = 0.2"
    curve = select_scale(ROWS, bound, TASKS, GROUPS)["curve"]
    assert [len(point["broken"]) for point in curve] == [0, 0, 1]
    assert curve[2]["broken"][0]["points"] == pytest.approx(1.5)


def test_where_nothing_keeps_a_constraint_the_least_broken_is_chosen_and_told():
    rule = Select(objective="mean(makam) subject to western >= 71")
    selection = select_scale(ROWS, rule, TASKS, GROUPS)
    assert selection["row"] == "base"
    summary = {"seeds": [0], "selection": selection}
    assert any("breaks the constraints least" in line for line in selection_sentences(summary))


def test_of_equals_the_smallest_sum_of_absolute_scales_is_chosen():
    def at(first, second):
        scales = {"makam": first, "lyra": second}
        name = f"{first} {second}" if first or second else "base"
        return row_of(first or second, 0.5, 0.5, name=name, scale=None, scales=scales)

    rows = [at(0.5, 0.5), at(-0.2, 0.1), at(0.3, 0.0)]
    base = row_of(0.0, 0.4, 0.4, scale=None, scales={"makam": 0.0, "lyra": 0.0})
    assert choose([base, *rows], Select(), TASKS, GROUPS) in ("-0.2 0.1", "0.3 0.0")
    assert choose([base, rows[0], rows[1]], Select(), TASKS, GROUPS) == "-0.2 0.1"


def test_the_band_holds_what_resamples_can_not_tell_apart():
    generator = np.random.default_rng(0)
    noise = generator.normal(scale=0.01, size=500)
    goals = {
        "best": 0.7 + noise,
        "near": 0.699 + noise + generator.normal(scale=0.01, size=500),
        "far": 0.6 + noise,
    }
    found = indistinguishable(goals, "best", 0.95)
    assert [name for name, each in found.items() if each["in_band"]] == ["best", "near"]
    assert found["far"]["low"] == pytest.approx(0.1)
    unknown = {**goals, "far": np.full(500, np.nan)}
    assert indistinguishable(unknown, "best", 0.95)["far"]["in_band"]


def test_runs_are_neighbours_in_the_band():
    inside = [True, True, False, True]
    curve = [{"scale": place / 10, "in_band": each} for place, each in enumerate(inside)]
    assert runs_of(curve) == [[0.0, 0.1], [0.3, 0.3]]


def test_the_statement_tells_of_the_band():
    summary = sweep_summary()
    band = {
        row["name"]: {"low": 0.0, "high": 0.1, "in_band": row["scale"] in (0.25, 0.5)}
        for row in summary["rows"]
        if row["in_grid"]
    }
    rows = summary["rows"]
    summary["selection"] = select_scale(rows, Select(), TASKS, GROUPS, band=band)
    assert summary["selection"]["band"]["members"] == ["λ = 0.25", "λ = 0.5"]
    assert summary["selection"]["band"]["runs"] == [[0.25, 0.5]]
    told = " ".join(selection_sentences(summary))
    assert "λ 0.25 to 0.5 can't be told apart from it (95 % intervals" in told


def test_the_tables_rows_have_their_place():
    summary = sweep_summary()
    titles = [title for title, _ in table_rows(summary)]
    assert titles[-2:] == ["weight average (λ = 0.5)", "task arithmetic (λ = 0.25)"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_an_early_order_holds_every_place_once_ends_first(count):
    order = early_order(count)
    assert sorted(order) == list(range(count))
    assert order[:2] == list(dict.fromkeys([0, count - 1]))[:count]


def test_points_of_a_space(tmp_path):
    space = make_space(sweep_recipe(tmp_path, space="per_culture", scales=[-0.1, 0.0, 1.0]))
    named = {space.name(point): point for point in space.points}
    assert len(named) == len(space.points)
    assert [name for name, point in named.items() if point.negation] == [
        "λ: makam -0.1, lyra 0",
        "λ: makam 0, lyra -0.1",
    ]
    assert [point.scales for point in space.points if point.weight_average] == [(0.5, 0.5)]
    assert space.single("makam").scales == (1.0, 0.0)
    assert "λ: makam 1, lyra 0" not in named
    dense = make_space(sweep_recipe(tmp_path, interpolate={"points": 101}, scales=[0.0, 1.0]))
    assert len(dense.points) == 100
    only_base = make_space(sweep_recipe(tmp_path, scales=[0.0]))
    assert [point.scale for point in only_base.points] == [0.5]
