"""Position encodings: grids, order of channels, rounding."""

import numpy as np
import pytest

import perceiver_io
from perceiver_io.network.position_encoding import (
    LINSPACE,
    SUBSAMPLED,
    TORCH,
    XLA,
    FourierPositionEncoding,
    grid,
)


def test_grids():
    np.testing.assert_allclose(grid(LINSPACE, 5), [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(grid(SUBSAMPLED, 4), [-1, -0.5, 0, 0.5])
    np.testing.assert_allclose(grid(LINSPACE, 5, TORCH), [-1, -0.5, 0, 0.5, 1])
    with pytest.raises(ValueError, match='linspace'):
        grid('lin', 4)


def test_order_of_the_fourier_channels():
    encoding = FourierPositionEncoding((2, 3), bands=2, max_resolution=(4, 8))
    assert encoding.channels == 10
    y, x = 1.0, 0.0  # the point (1, 1) of 2 x 3
    angles = [1 * y, 2 * y, 1 * x, 4 * x]  # bands 1 and 2 of y, 1 and 4 of x
    expected = [y, x, *np.sin(np.pi * np.array(angles)), *np.cos(np.pi * np.array(angles))]
    np.testing.assert_allclose(encoding.dense(LINSPACE)[4], expected, atol=1e-6)


def test_the_highest_audio_band_is_rounded_as_in_the_original():
    """sin(pi * 15360 x) in float32: these are the bits that XLA makes of the original's code."""
    table = FourierPositionEncoding((1920,), 192, (30_720,)).dense(SUBSAMPLED)
    position = np.float32(-1) + np.float32(2 * 844) * (np.float32(1) / np.float32(1920))
    assert table[844, 0] == position
    argument = np.float32(np.pi) * (position * np.float32(15_360))
    assert table[844, 192] == np.float32(np.sin(np.float64(argument)))
    assert abs(table[844, 192] - np.sin(np.pi * (-1 + 2 * 844 / 1920) * 15_360)) > 1e-4


def test_the_rounding_of_torch():
    """It counts from both ends and divides; with torch, test_transformers.py compares every bit."""
    points = grid(LINSPACE, 1920, TORCH)
    np.testing.assert_array_equal(points, -points[::-1])
    assert (grid(LINSPACE, 1920) != -grid(LINSPACE, 1920)[::-1]).any()
    np.testing.assert_array_equal(
        grid(SUBSAMPLED, 1920, TORCH),
        np.float32(-1) + np.arange(0, 3840, 2).astype(np.float32) / np.float32(1920),
    )
    ours, theirs = (
        perceiver_io.AutoencoderConfig(position_rounding=rounding).audio_position
        for rounding in (XLA, TORCH)
    )
    assert 1e-3 < abs(ours.dense(LINSPACE) - theirs.dense(LINSPACE)).max() < 2e-2
