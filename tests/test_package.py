"""The public API: every name is there, and importing the package loads nothing heavy."""

import importlib
import subprocess
import sys

import pytest

import mergekit_audio

HEAVY = ("torch", "numpy", "transformers", "scipy", "sklearn", "matplotlib", "pydantic", "typer")


def test_import_loads_nothing_heavy():
    code = f"import sys, mergekit_audio; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_is_its_module_s_own():
    for name in mergekit_audio.__all__:
        value = getattr(mergekit_audio, name)
        module = getattr(value, "__module__", None)
        if module is not None and module.startswith("mergekit_audio"):
            assert getattr(importlib.import_module(module), name) is value


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mergekit_audio.nothing  # noqa: B018


def test_api_map_and_all_agree():
    assert sorted([*mergekit_audio._API, "__version__"]) == sorted(mergekit_audio.__all__)
    assert dir(mergekit_audio) == sorted(mergekit_audio.__all__)
