"""Files that were cut, in every format, and MP3 files whose header says too little."""

import numpy as np
import pytest
import soundfile
from recordings import cut, tone, write_recording

from mergekit_audio.audio import integrity, mpeg
from mergekit_audio.audio.decode import RecordingError, decode

SHARES = [0.999, 0.9, 0.5, 0.1]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_a_cut_file_is_refused(tmp_path, name, share):
    rate = 48_000 if name == "a.opus" else 44_100
    path = write_recording(
        tmp_path / name, duration_s=10, sample_rate_hz=rate, channels=2, noise=0.1
    )
    assert decode(path).size == 240_000
    cut(path, share)
    with pytest.raises(RecordingError, match=f"{name}: (holds|ends|decodes only)") as caught:
        decode(path)
    assert "download it again" in caught.value.hint


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_window_before_the_cut_is_still_good(tmp_path, name):
    path = write_recording(tmp_path / name, duration_s=20, noise=0.1)
    expected = decode(path, start_s=1, end_s=4)
    cut(path, 0.5)
    np.testing.assert_allclose(decode(path, start_s=1, end_s=4), expected, rtol=0, atol=2.0**-22)
    with pytest.raises(RecordingError, match=name):
        decode(path, start_s=1, end_s=15)


def test_a_wav_says_how_much_is_missing(tmp_path):
    path = cut(write_recording(tmp_path / "a.wav", duration_s=10), 0.5)
    with pytest.raises(RecordingError, match=r"holds 5\.00 s of the 10\.00 s that its header"):
        decode(path)


def test_rf64_that_was_cut(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(duration_s=4), 24_000, format="RF64")
    data = bytearray(path.read_bytes())
    if data[:4] == b"RF64":
        assert integrity.find_cut(path, "wav") == ""
        cut(path, 0.5)
        assert "that its header promises" in integrity.find_cut(path, "wav")


def test_a_wav_from_a_pipe_has_no_length_and_is_read(tmp_path):
    path = write_recording(tmp_path / "a.wav", duration_s=1)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert decode(path).size == 24_000


def test_damage_in_the_middle_of_a_flac(tmp_path):
    path = write_recording(tmp_path / "a.flac", duration_s=10, noise=0.1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"a\.flac: decodes only to [345]\.\d\d s of 10\.00 s"):
        decode(path)


def _mp3_without_xing(path, *, quiet_first=False, mode="CONSTANT"):
    """An MP3 as streams and old encoders write it: only frames."""
    wave = tone(duration_s=6, sample_rate_hz=44_100, channels=2, noise=0.3)
    if quiet_first:
        wave[: 44_100 * 3] = 0
    with soundfile.SoundFile(
        path, "w", 44_100, 2, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode
    ) as recording:
        recording.write(wave)
    data = path.read_bytes()
    second = data.find(data[:2], 4)
    assert b"Xing" in data[:second] or b"Info" in data[:second]
    path.write_bytes(data[second:])
    return data[second:]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("quiet_first", [False, True])
def test_an_mp3_without_header_gives_all_its_frames(tmp_path, mode, quiet_first):
    path = tmp_path / "a.mp3"
    _mp3_without_xing(path, quiet_first=quiet_first, mode=mode)
    stream = mpeg.scan(path)
    assert stream is not None
    assert stream.promised_frames is None
    # 6 s and the encoder's delay, in whole frames
    assert 6 <= stream.seconds < 6.1
    decoded = decode(path)
    assert abs(decoded.size - 6.02 * 24_000) < 1_500
    assert np.abs(decoded[-24_000:-6_000]).mean() > 0.1  # the loud end is there


def test_tags_around_an_mp3_are_no_frames_and_no_damage(tmp_path):
    path = tmp_path / "a.mp3"
    frames = _mp3_without_xing(path)
    expected = decode(path)
    noise = np.random.default_rng(0).bytes(5_000)
    size = (len(noise) + 32).to_bytes(4, "little")
    ape_fields = (2_000).to_bytes(4, "little") + size + bytes(4)
    ape = (
        b"APETAGEX" + ape_fields + b"\0\0\0\xa0" + bytes(8)
        + noise
        + b"APETAGEX" + ape_fields + b"\0\0\0\x80" + bytes(8)
    )  # fmt: skip
    id3v2 = b"ID3\x04\0\0" + bytes([0, 0, 39, 8]) + noise
    id3v1 = b"TAG" + bytes(125)
    path.write_bytes(id3v2 + frames + ape + id3v1)
    np.testing.assert_array_equal(decode(path), expected)
    path.write_bytes(id3v2 + frames[: len(frames) // 2 + 7] + ape + id3v1)
    with pytest.raises(RecordingError, match="ends inside an MPEG frame after"):
        decode(path)


def test_frames_lost_in_the_middle_of_an_mp3(tmp_path):
    path = write_recording(tmp_path / "a.mp3", duration_s=10, noise=0.2)
    data = path.read_bytes()
    path.write_bytes(data[:20_000] + data[40_000:])
    with pytest.raises(RecordingError, match=r"holds \d\.\d\d s of the 10\.\d\d s that its header"):
        decode(path)


def test_mpeg_frames_against_libsndfile(tmp_path):
    for rate in (8_000, 16_000, 22_050, 32_000, 44_100, 48_000):
        path = write_recording(tmp_path / f"{rate}.mp3", duration_s=3, sample_rate_hz=rate)
        stream = mpeg.scan(path)
        assert stream is not None
        assert stream.sample_rate_hz == rate == soundfile.info(path).samplerate
        assert stream.frames == stream.promised_frames
        assert 0 <= stream.seconds - 3 < 3 * 1_152 / rate


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_damaged_bytes_give_sound_or_one_kind_of_error(tmp_path, name):
    path = write_recording(tmp_path / name, duration_s=0.3)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(30):
        data = bytearray(whole)
        place = int(generator.integers(len(data) if generator.random() < 0.5 else 120))
        replaced = int(generator.integers(0, 30))
        data[place : place + replaced] = generator.bytes(int(generator.integers(0, 30)))
        path.write_bytes(data)
        try:
            decoded = decode(path)
        except RecordingError:
            continue
        assert np.isfinite(decoded).all()
