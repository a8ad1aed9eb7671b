"""Chromium shows the report: light and dark, wide and narrow, on paper, without a broken part."""

import os
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import pytest
from report_cases import (
    told_geometry,
    told_label_free,
    told_landscape,
    told_lock,
    told_similarity,
)

from mergekit_audio.report.html import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
HEIGHT = 2400

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)} on the PATH"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(
        tmp_path_factory.mktemp("page") / "report.html",
        told_label_free(),
        synthetic=True,
        landscape=told_landscape(),
        similarity=told_similarity(),
        geometry=told_geometry(),
        made=told_lock(),
    )


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    """The folder where screenshots stay: ``CMERGE_TEST_ARTEFACTS``, else a temporary one."""
    given = os.environ.get("CMERGE_TEST_ARTEFACTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def browse(report, profile, *options):
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", *options]
    return subprocess.run(
        [*command, report.as_uri()], check=True, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_drawn(report, artefacts, tmp_path, width, theme):
    path = artefacts / f"report-{width}-{theme}.png"
    dark = ["--force-dark-mode"] if theme == "dark" else []
    browse(report, tmp_path, *dark, f"--window-size={width},{HEIGHT}", f"--screenshot={path}")
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.shape[:2] == (HEIGHT, width) or width == 390
    assert pixels.std() > 0.02
    brightness = float(pixels.mean())
    assert brightness < 0.35 if theme == "dark" else brightness > 0.75
    # the right edge is empty paper: nothing reaches over the page's side
    edge = pixels[:, -6:]
    assert (abs(edge - edge[0]).max(axis=-1) < 0.02).mean() > 0.97


def test_nothing_is_broken_and_nothing_is_loaded(report, tmp_path):
    found = browse(report, tmp_path, "--enable-logging=stderr", "--dump-dom")
    assert found.stdout.count("<section") == 14
    assert found.stdout.count("</svg>") == report.read_text(encoding="utf-8").count("</svg>")
    assert "Use λ = 0.25" in found.stdout
    assert "CONSOLE" not in found.stderr


def test_it_prints(report, artefacts, tmp_path):
    path = artefacts / "report.pdf"
    browse(report, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={path}")
    assert path.read_bytes()[:5] == b"%PDF-"
    assert path.stat().st_size > 20_000
