"""Structural similarity of images (Wang, Bovik, Sheikh and Simoncelli 2004)."""

import jax
import jax.numpy as jnp
import numpy as np

WINDOW = 11  # pixels along a side of the Gaussian window
_SIGMA = 1.5  # of the window, in pixels
_C1, _C2 = 0.01**2, 0.03**2  # for a range of 1


def ssim(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The mean structural similarity of each example.

    Windows are Gaussian, 11 x 11 with a standard deviation of 1.5 pixels, and lie wholly inside the
    frame. Every colour channel of every frame is an image; the mean is taken over all of them.

    Args:
        prediction: [b, t, h, w, c] in [0, 1]; h and w are at least 11.
        target: the same.

    Returns:
        [b], at most 1.
    """
    mean_x, mean_y = _blur(prediction), _blur(target)
    variance_x = _blur(prediction * prediction) - mean_x * mean_x
    variance_y = _blur(target * target) - mean_y * mean_y
    covariance = _blur(prediction * target) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return (luminance * structure).mean(axis=(1, 2, 3, 4))


def _blur(x: jax.Array) -> jax.Array:
    """Gaussian means of [b, t, h, w, c] over all windows: [b, t, h - 10, w - 10, c]."""
    rows, columns = (_gaussian_means(size) for size in x.shape[2:4])
    x = jnp.einsum('yh,bthwc->btywc', rows, x, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum('xw,btywc->btyxc', columns, x, precision=jax.lax.Precision.HIGHEST)


def _gaussian_means(size: int) -> np.ndarray:
    """The matrix [size - 10, size] that takes a line of pixels to its means over all windows."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    lines = size - WINDOW + 1
    means = np.zeros((lines, size), np.float32)
    for line in range(lines):
        means[line, line : line + WINDOW] = weights / weights.sum()
    return means
