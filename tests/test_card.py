"""The model card: metadata that the hub reads, and what a reader should know."""

import pytest
import yaml

from mergekit_audio.report.card import (
    LICENSES,
    CardCorpus,
    CardFacts,
    CardInput,
    card_text,
    read_license,
    strictest_license,
    write_card,
)


def facts(**changes):
    values = {
        "title": "culturemert_ta",
        "relation": "merge",
        "summary": "Two models merged.",
        "inputs": (
            CardInput("base", "m-a-p/MERT-v1-95M@main", "a" * 64, "cc-by-nc-4.0", on_hub=True),
            CardInput("model", "runs/makam", "b" * 64, "cc-by-nc-4.0", weight=1.0),
            CardInput("model", "runs/lyra", "c" * 64, "cc-by-nc-4.0", weight=-0.5),
        ),
        "method": "θ = θ_base + λ · Δ",
        "recipe": {"kind": "merge", "scale": 0.2, "output": "runs/culturemert_ta"},
        "tags": ("merge", "task-arithmetic"),
    }
    return CardFacts(**{**values, **changes})


def metadata(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_metadata_is_what_the_hub_reads():
    assert metadata(card_text(facts())) == {
        "license": "cc-by-nc-4.0",
        "base_model": ["m-a-p/MERT-v1-95M"],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "pipeline_tag": "feature-extraction",
        "tags": ["merge", "task-arithmetic", "music"],
    }


def test_the_hub_s_own_validator_takes_the_metadata():
    from huggingface_hub import ModelCardData

    data = ModelCardData(**metadata(card_text(facts())), ignore_metadata_errors=False)
    assert data.base_model == ["m-a-p/MERT-v1-95M"]


def test_local_folders_are_no_base_model_of_the_hub():
    text = card_text(facts(inputs=(CardInput("base", "runs/base", "a" * 64, "mit"),)))
    assert "base_model" not in metadata(text)
    assert "`runs/base`" in text


def test_the_recipe_and_the_inputs_are_shown():
    text = card_text(facts())
    shown = text.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(shown) == facts().recipe
    assert f"| model | `runs/lyra` | -0.5 | cc-by-nc-4.0 | `{'c' * 64}` |" in text
    assert "cmerge verify culturemert_ta --rebuild" in text
    assert "## Responsible use" in text
    assert "non-Western" in text


def test_a_trained_model_has_corpora_scores_and_sections():
    text = card_text(
        facts(
            relation="finetune",
            inputs=(CardInput("base", "m-a-p/MERT-v1-95M", "a" * 64, "cc-by-nc-4.0", on_hub=True),),
            corpora=(CardCorpus("makam", "audio/makam", "cc-by-nc-sa-4.0", "research only"),),
            scores=({"task": "makam", "ROC-AUC": "0.81 ± 0.01"},),
            sections=(("Training", "Two stages."),),
        )
    )
    assert metadata(text)["base_model_relation"] == "finetune"
    assert metadata(text)["license"] == "cc-by-nc-sa-4.0"
    assert "| makam | `audio/makam` | cc-by-nc-sa-4.0 | research only |" in text
    assert "| makam | 0.81 ± 0.01 |" in text
    assert "## Training\n\nTwo stages." in text
    assert "weight" not in text.split("## What went in")[1].split("##")[0]


def test_a_model_without_base_has_no_relation():
    text = card_text(facts(relation=None, inputs=()))
    assert "base_model_relation" not in metadata(text)
    assert "Nothing with a licence of its own went in" in text


def test_pipes_do_not_break_the_table():
    text = card_text(facts(scores=({"task": "a|b", "score": "1"},)))
    assert r"| a\|b | 1 |" in text


def test_equal_facts_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_card(tmp_path / name, facts())
    one, two = ((tmp_path / name / "README.md").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["apache-2.0", "cc-by-nc-4.0", "mit"], "cc-by-nc-4.0"),
        (["cc-by-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0"),
        (["cc0-1.0"], "cc0-1.0"),
        (["mit", None], "unknown"),
        (["llama3", "llama3"], "llama3"),
        (["mit", "llama3"], "other"),
        ([], "unknown"),
    ],
)
def test_the_strictest_licence_counts(licenses, expected):
    assert strictest_license(licenses) == expected
    assert strictest_license(licenses[::-1]) == expected


def test_every_known_licence_is_stricter_than_those_before():
    for i, name in enumerate(LICENSES):
        assert strictest_license([*LICENSES[: i + 1]]) == name


def test_an_unknown_licence_is_told_with_what_is_known():
    inputs = (
        CardInput("base", "m-a-p/MERT-v1-95M", "a" * 64, "cc-by-nc-4.0"),
        CardInput("model", "runs/makam", "b" * 64, None),
        CardInput("model", "runs/lyra", "c" * 64, "house-rules"),
    )
    text = card_text(facts(inputs=inputs))
    assert metadata(text)["license"] == "unknown"
    assert "The licence of `runs/makam` is not known." in text
    assert "Terms of their own apply: `house-rules`." in text
    assert "The strictest of the others is cc-by-nc-4.0" in text


@pytest.mark.parametrize(
    ("card", "source", "expected"),
    [
        ("---\nlicense: CC-BY-NC-4.0\n---\n# Card\n", "x", "cc-by-nc-4.0"),
        ("---\ntags: [music]\n---\n", "x", None),
        ("---\nlicense: [a\n---\n", "x", None),
        ("no metadata", "m-a-p/MERT-v1-330M@main", "cc-by-nc-4.0"),
        (None, "ntua-slp/CultureMERT-95M", "cc-by-nc-4.0"),
        (None, "runs/makam", None),
    ],
)
def test_an_input_s_licence_is_its_card_s_or_a_known_repository_s(tmp_path, card, source, expected):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert read_license(tmp_path, source) == expected
