"""Decoding against values that are known without the decoder."""

import tracemalloc
import wave as wave_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import tone, write_recording

from mergekit_audio.audio.decode import RecordingError, decode, decode_blocks

FORMATS = ["a.wav", "a.flac", "a.ogg", "a.mp3"]


@pytest.mark.parametrize("rate", [8_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_resampled_sine_is_the_ideal_sine(tmp_path, rate):
    seconds = np.arange(rate) / rate
    sine = 0.5 * np.sin(2 * np.pi * 997.0 * seconds)
    path = write_recording(tmp_path / "a.wav", sine, sample_rate_hz=rate, subtype="FLOAT")
    decoded = decode(path)
    ideal = 0.5 * np.sin(2 * np.pi * 997.0 * np.arange(24_000) / 24_000)
    assert decoded.dtype == np.float32
    assert decoded.shape == (24_000,)
    np.testing.assert_allclose(decoded[600:-600], ideal[600:-600], atol=2e-5)


def test_what_the_new_rate_cannot_hold_is_filtered_away(tmp_path):
    sine = 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(44_100) / 44_100)
    path = write_recording(tmp_path / "a.wav", sine, sample_rate_hz=44_100, subtype="FLOAT")
    assert np.abs(decode(path)[600:-600]).max() < 1e-4


def test_channels_are_mixed_by_their_mean(tmp_path):
    left_right = np.random.default_rng(0).uniform(-1, 1, (24_000, 2)).astype(np.float32)
    path = write_recording(tmp_path / "a.wav", left_right, subtype="FLOAT")
    expected = left_right.astype(np.float64).mean(axis=1)
    np.testing.assert_allclose(decode(path), expected, atol=1e-7)


def test_96_khz_stereo(tmp_path):
    path = write_recording(tmp_path / "a.flac", sample_rate_hz=96_000, channels=2, duration_s=1.5)
    assert decode(path).shape == (36_000,)


@pytest.mark.parametrize(
    ("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)]
)
def test_whole_number_samples_become_fractions_of_full_scale(tmp_path, subtype, bits):
    wave = np.random.default_rng(bits).uniform(-0.9, 0.9, 4_000)
    path = write_recording(tmp_path / "a.wav", wave, subtype=subtype)
    with wave_module.open(str(path)) as recording:  # the standard library, not libsndfile
        raw = recording.readframes(recording.getnframes())
    width = bits // 8
    if bits == 8:
        steps = np.frombuffer(raw, np.uint8).astype(np.float64) - 128
    else:
        padded = np.zeros((4_000, 4), np.uint8)
        padded[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
        steps = padded.view("<i4")[:, 0].astype(np.float64) / 2 ** (32 - bits)
    np.testing.assert_allclose(decode(path), steps / 2 ** (bits - 1), atol=1e-7)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_samples_stay_as_they_are(tmp_path, subtype):
    wave = np.random.default_rng(1).uniform(-1.5, 1.5, 4_000).astype(np.float32)
    path = write_recording(tmp_path / "a.wav", wave, subtype=subtype)
    np.testing.assert_array_equal(decode(path), wave)


@pytest.mark.parametrize("name", FORMATS)
def test_a_window_is_a_slice_of_the_whole(tmp_path, name):
    path = write_recording(tmp_path / name, duration_s=20, channels=2, noise=0.1)
    whole = decode(path)
    bound = 2.0**-22 if name == "a.mp3" else 0  # mpg123 rounds by where it began
    windows = [(7.3, 9.1, whole[175_200:218_400]), (11.0, None, whole[264_000:])]
    for start_s, end_s, expected in windows:
        window = decode(path, start_s=start_s, end_s=end_s)
        np.testing.assert_allclose(window, expected, rtol=0, atol=bound)
    np.testing.assert_array_equal(decode(path, end_s=3.0), whole[:72_000])


@pytest.mark.parametrize(("rate", "quality"), [(16_000, 0.99), (44_100, 0.99), (44_100, 0.5)])
def test_an_mp3_that_borrows_bits_is_the_same_in_blocks_and_windows(tmp_path, rate, quality):
    # a pure tone or a low bit rate makes the encoder keep bits for later frames
    wave = tone(duration_s=12, sample_rate_hz=rate, noise=0)
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(
        path, "w", rate, 1, "MPEG_LAYER_III", format="MP3", compression_level=quality
    ) as recording:
        recording.write(wave)
    at_once, _ = soundfile.read(path, dtype="float32")  # one read, so no seek in between
    decoded = decode(path, sample_rate_hz=rate)
    np.testing.assert_allclose(decoded, at_once, rtol=0, atol=2.0**-21)
    first = round(7.7 * rate)
    window = decode(path, sample_rate_hz=rate, start_s=7.7, end_s=8.7)
    np.testing.assert_allclose(window, at_once[first : first + rate], rtol=0, atol=2.0**-21)


@pytest.mark.parametrize("name", FORMATS)
def test_lossy_and_lossless_formats_hold_the_same_tone(tmp_path, name):
    wave = tone(duration_s=3, sample_rate_hz=44_100, noise=0)
    path = write_recording(tmp_path / name, wave, sample_rate_hz=44_100)
    decoded = decode(path)
    assert decoded.shape == (72_000,)
    ideal = 0.4 * np.sin(2 * np.pi * 440 * np.arange(72_000) / 24_000)
    assert np.abs(decoded - ideal)[2_400:-2_400].max() < 0.02


def test_blocks_are_small_whatever_the_length(tmp_path):
    path = write_recording(tmp_path / "a.wav", duration_s=240)
    tracemalloc.start()
    samples = sum(block.size for block in decode_blocks(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples == 240 * 24_000
    assert peak < 2_000_000  # the whole is 23 MB


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -20_000.0])
def test_samples_that_are_no_sound_are_refused_with_their_time(tmp_path, value):
    wave = np.zeros((48_000, 2), np.float32)
    wave[36_000, 1] = value
    path = write_recording(tmp_path / "a.wav", wave, subtype="FLOAT")
    with pytest.raises(
        RecordingError, match=r"a\.wav: the sample at 1\.500 s is (nan|-?inf|3e\+38|-20000)"
    ):
        decode(path)


def test_a_window_outside_the_file(tmp_path):
    path = write_recording(tmp_path / "a.flac", duration_s=2)
    with pytest.raises(RecordingError, match=r"has 2\.00 s, but the window ends at 9"):
        decode(path, end_s=9)
    with pytest.raises(RecordingError, match=r"window from 2\.5 s to None s holds nothing"):
        decode(path, start_s=2.5)
    assert decode(path, end_s=2.5).shape == (48_000,)  # a rounded end_s


def test_what_is_not_a_recording(tmp_path):
    cases = {
        "empty.wav": (b"", r"empty\.wav: is empty \(0 bytes\)"),
        "text.wav": (b"hello " * 100, r"text\.wav: is not a readable recording"),
        "page.mp3": (b"<html>404</html>" * 50, r"page\.mp3: is not an MP3"),
        "random.flac": (bytes(range(256)) * 20, r"random\.flac: is not a readable recording"),
        "song.m4a": (b"\0\0\0\x20ftypM4A " * 9, r"song\.m4a: is not in a supported format"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RecordingError, match=message) as caught:
            decode(tmp_path / name)
        assert caught.value.hint
    with pytest.raises(RecordingError, match=r"none\.wav: no such file"):
        decode(tmp_path / "none.wav")
    with pytest.raises(RecordingError, match="is a folder"):
        decode(tmp_path)


def test_a_wav_without_channels_or_samples(tmp_path):
    path = write_recording(tmp_path / "a.wav", duration_s=0.5)
    data = bytearray(path.read_bytes())
    data[22:24] = b"\0\0"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"a\.wav: is not a readable recording"):
        decode(path)
    none = write_recording(tmp_path / "b.wav", np.zeros(0))
    with pytest.raises(RecordingError, match=r"b\.wav: holds no samples"):
        decode(none)


def test_another_container_is_refused_by_name(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(100), 24_000, format="AIFF")
    with pytest.raises(RecordingError, match="is AIFF; WAV, FLAC, OGG and MP3 are supported"):
        decode(path)


def test_a_wrong_suffix_does_not_matter(tmp_path):
    path = write_recording(tmp_path / "a.flac", duration_s=1)
    renamed = path.rename(tmp_path / "a.mp3")
    assert decode(Path(renamed)).shape == (24_000,)


def test_rf64(tmp_path):
    wave = np.arange(-500, 500) / 1_000
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, 24_000, format="RF64", subtype="FLOAT")
    np.testing.assert_allclose(decode(path), wave, atol=1e-7)
