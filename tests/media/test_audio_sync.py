"""Audio whose stored times jitter, drift, have gaps or run backwards: holes and sync.

`pytest -s tests/media/test_audio_sync.py` prints the table of docs/input_pipeline.md.
"""

import numpy as np
import pytest
from helpers import timed_audio

from perceiver_io.core.clip import ClipSpec
from perceiver_io.data.prepare import transcode
from perceiver_io.media import audio_sync, reader
from perceiver_io.media.audio_sync import Piece

SPEC = ClipSpec(frames=16, video=False)
RATE = 48_000
SIZE = 1024


def whole(media):
    windows = reader.read_windows(media, SPEC)
    return np.concatenate(
        [clip.audio[: valid * SPEC.samples_per_frame, 0] for clip, valid in windows]
    )


def check(audio, made, start=0.0):
    """Sync within 5 ms, and no silence but that of true gaps."""
    measured = timed_audio.measure(audio, made, start)
    assert measured.worst_lag < 0.005
    assert measured.zero_seconds < made.gap_seconds + 0.008  # at both ends of the file
    return measured


@pytest.mark.parametrize(
    'number', range(len(timed_audio.TIMINGS)), ids=[each.name for each in timed_audio.TIMINGS]
)
def test_inaccurate_times(tmp_path, number):
    timing = timed_audio.TIMINGS[number]
    made = timed_audio.make(tmp_path, timing, seed=number)
    measured = check(whole(made.path), made)
    assert measured.zero_seconds > made.gap_seconds - 0.005
    sought = []
    for start in (0.32, 3.76, 4.4, 9.0):
        audio = reader.read_window(made.path, start, SPEC).audio[:, 0]
        sought.append(check(audio, made, start).worst_lag)
    print(
        f'| {timing.name} | {made.gap_seconds * 1e3:.0f} | {measured.zero_seconds * 1e3:.0f} '
        f'in {measured.runs} | {measured.worst_lag * 1e3:.1f} | {max(sought) * 1e3:.1f} |'
    )


@pytest.mark.parametrize('number', [5, 10, 21])
def test_inaccurate_times_are_mended_in_what_is_prepared(tmp_path, number):
    made = timed_audio.make(tmp_path, timed_audio.TIMINGS[number], seed=number)
    stored = transcode.store(made.path, transcode.Settings(), tmp_path)
    measured = timed_audio.measure(whole(stored.media), made)
    assert measured.worst_lag < 0.006
    assert measured.zero_seconds < made.gap_seconds + 0.008


def test_a_window_is_the_same_however_it_is_reached(tmp_path):
    """In a file no longer than the times that are looked at."""
    timing = timed_audio.Timing('clip', 0.015, suffix='.mkv', seconds=6)
    made = timed_audio.make(tmp_path, timing)
    audio = whole(made.path).astype(int)
    for start in (1.2, 3.4, 5.2):
        window = reader.read_window(made.path, start, SPEC).audio[:, 0]
        first = round(start * RATE)
        # The stored times are in milliseconds, and the filter begins elsewhere.
        assert np.abs(window - audio[first : first + len(window)]).mean() < 20


def pieces_at(offsets):
    """Pieces of SIZE samples, each later than the end of the one before by the step of offsets."""
    return [
        Piece(number * SIZE + int(offset), np.full(SIZE, number + 1, np.float32))
        for number, offset in enumerate(offsets)
    ]


def placed(offsets, complete=True):
    """The offsets that the pieces get."""
    result = list(audio_sync.place(pieces_at(offsets), RATE, complete))
    assert sum(len(piece.samples) for piece in result) == len(offsets) * SIZE
    return [piece.first - number * SIZE for number, piece in enumerate(result)]


def test_rounded_times_change_nothing():
    rounding = np.random.default_rng(0).integers(-48, 48, 500)
    assert placed(rounding, complete=False) == [rounding[0]] * 500


@pytest.mark.parametrize('step', [200, 1440, 100_000, -200, -1440, -9600])
@pytest.mark.parametrize('at', [1, 3, 100, 198])
def test_a_clean_step_is_followed_to_the_sample(step, at):
    offsets = [7] * at + [7 + step] * (200 - at)
    assert placed(offsets) == offsets


def test_steps_close_to_each_other_are_followed():
    """As where a codec stores nothing in pauses."""
    offsets = np.repeat(np.arange(20) * 5000, 12)
    assert placed(offsets) == offsets.tolist()


@pytest.mark.parametrize('length', [1, 2, 15])
@pytest.mark.parametrize('by', [-480, 960, 20_000])
def test_times_that_return_to_the_count_are_passed_over(length, by):
    offsets = np.zeros(300, int)
    offsets[100 : 100 + length] = by
    assert placed(offsets) == [0] * 300


def test_the_first_time_may_be_wrong():
    offsets = np.zeros(300, int)
    offsets[0] = -700
    offsets[5] = 400
    assert placed(offsets)[1:] == [0] * 299


def test_scattered_times_have_no_effect_on_the_length():
    offsets = np.random.default_rng(1).uniform(-960, 960, 400)
    found = placed(offsets)
    assert len(set(found)) == 1 and abs(found[0]) < 100


def test_drift_is_followed_by_stretching():
    offsets = np.arange(2000) * SIZE * 0.002
    result = list(audio_sync.place(pieces_at(offsets), RATE, complete=True))
    for before, after in zip(result[:-1], result[1:]):
        assert after.first == before.end
    lengths = [len(piece.samples) for piece in result]
    assert SIZE == min(lengths) and max(lengths) <= 1.01 * SIZE
    late = [piece.first - number * SIZE - offsets[number] for number, piece in enumerate(result)]
    assert np.abs(late).max() <= 0.0032 * RATE


def test_a_drift_too_large_is_corrected_by_steps():
    offsets = np.arange(600) * SIZE * 0.05
    late = [
        piece.first - number * SIZE - offsets[number]
        for number, piece in enumerate(audio_sync.place(pieces_at(offsets), RATE, complete=True))
    ]
    assert np.abs(late).max() < 0.012 * RATE


def test_times_before_are_asked_for_where_they_matter():
    pieces = pieces_at([0] * 100 + [960] * 10 + [0] * 100)
    found = []
    with pytest.raises(audio_sync.HistoryNeededError):
        for piece in audio_sync.place(pieces, RATE, complete=False):
            found.append(piece.first)
    assert found == [number * SIZE for number in range(100)]
