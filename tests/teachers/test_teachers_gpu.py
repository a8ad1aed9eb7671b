"""Teachers and backbone on a GPU give what they give on the CPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.teachers.cqt import Cqt
from mergekit_audio.teachers.kmeans import Kmeans
from mergekit_audio.teachers.random_projection import RandomProjection
from mergekit_audio.teachers.residual_kmeans import ResidualKmeans

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def noise():
    return 0.1 * torch.randn(2, 30_000, generator=torch.Generator().manual_seed(0))


def test_hidden_states():
    model = Mert().build(Mert().preset("tiny"), None, training=False, seed=0)
    moved = Mert().build(Mert().preset("tiny"), model.state_dict(), training=False, device="cuda")
    with torch.no_grad():
        expected = Mert().hidden_states(model, noise())
        found = Mert().hidden_states(moved, noise().cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-2)


def test_cqt():
    teacher = Cqt(bins=84, bins_per_octave=12)
    expected = teacher.open(None, root=Path()).targets(noise())
    found = teacher.open(None, root=Path(), device="cuda").targets(noise().cuda())
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)


def test_residual_kmeans(tmp_path):
    teacher = ResidualKmeans(codebooks=2, codebook_size=8, mel_bins=20, window=1024)
    teacher.fit(noise(), tmp_path / "fitted", seed=0)
    cpu, gpu = (teacher.open(tmp_path / "fitted", root=tmp_path, device=d) for d in ("cpu", "cuda"))
    assert cpu.digest == gpu.digest
    codes = gpu.targets(noise().cuda())
    assert (codes.cpu() == cpu.targets(noise())).float().mean() > 0.999
    loss, _ = gpu.loss(gpu.head(16).cuda(), torch.randn(10, 16, device="cuda"), codes[0, :10])
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    "teacher",
    [
        Kmeans(mel_codes=8, chroma_codes=6, mel_bins=20, chroma_bins=24),
        RandomProjection(codebook_size=32, codebook_dimension=4, mel_bins=20, window=1024),
    ],
)
def test_fitted_teachers(tmp_path, teacher):
    teacher.fit(noise(), tmp_path / "fitted", seed=0)
    cpu, gpu = (teacher.open(tmp_path / "fitted", root=tmp_path, device=d) for d in ("cpu", "cuda"))
    assert cpu.digest == gpu.digest
    codes = gpu.targets(noise().cuda())
    assert (codes.cpu() == cpu.targets(noise())).float().mean() > 0.999
    loss, _ = gpu.loss(gpu.head(16).cuda(), torch.randn(10, 16, device="cuda"), codes[0, :10])
    assert torch.isfinite(loss)
