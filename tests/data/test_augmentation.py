"""Flips and colours, against hand-made frames; the loader's part is in test_loader.py."""

import numpy as np
import pytest

from perceiver_io.data.augmentation import Augmentation, jitter_colour


@pytest.fixture
def video():
    return np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)


def test_nothing_is_changed_by_default(video):
    np.testing.assert_array_equal(Augmentation()(video, np.random.default_rng(0)), video)
    np.testing.assert_array_equal(jitter_colour(video, 1, 1, 1), video)


def test_half_of_the_clips_are_mirrored_whole(video):
    rng = np.random.default_rng(0)
    flipped = 0
    for _ in range(200):
        result = Augmentation(flip=True)(video, rng)
        if (result == video).all():
            continue
        np.testing.assert_array_equal(result, video[:, :, ::-1])
        flipped += 1
    assert 80 < flipped < 120


def test_brightness_scales_values_and_stops_at_white():
    video = np.array([[[[10, 100, 200]]]], np.uint8)
    np.testing.assert_array_equal(jitter_colour(video, 1.5, 1, 1), [[[[15, 150, 255]]]])


def test_contrast_is_about_the_mean_grey_of_the_clip():
    video = np.array([[[[50] * 3, [150] * 3]]], np.uint8)  # mean grey 100
    np.testing.assert_array_equal(jitter_colour(video, 1, 0.5, 1), [[[[75] * 3, [125] * 3]]])
    np.testing.assert_array_equal(jitter_colour(video, 1, 1.5, 1), [[[[25] * 3, [175] * 3]]])


def test_saturation_is_about_the_grey_of_each_pixel():
    video = np.array([[[[100, 0, 0], [0, 100, 0], [60, 60, 60]]]], np.uint8)
    # BT.601: 100 of red is a grey of 29.9, and of green 58.7.
    np.testing.assert_array_equal(jitter_colour(video, 1, 1, 0), [[[[30] * 3, [59] * 3, [60] * 3]]])
    np.testing.assert_array_equal(
        jitter_colour(video, 1, 1, 0.5), [[[[65, 15, 15], [29, 79, 29], [60] * 3]]]
    )


def test_what_is_drawn_holds_for_all_frames():
    video = np.broadcast_to(
        np.random.default_rng(1).integers(60, 180, (1, 5, 5, 3), np.uint8), (4, 5, 5, 3)
    )
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(10):
        result = Augmentation(flip=True, colour_jitter=0.3)(video, rng)
        assert result.dtype == np.uint8 and (result == result[0]).all()
        seen.add(result[0].tobytes())
    assert len(seen) == 10
