"""Weights of an attention that reads by place."""

from collections.abc import Callable, Mapping

import numpy as np

from perceiver_io.training.initialization.grids import Grid

_SAMPLE = 8192  # points of a grid that a regression uses
_LATENTS = 48  # latents whose perplexity is measured
_QUERIES = 512  # queries whose perplexity is measured
_LARGEST = 100.0  # limit of the logits
_RIDGE = 1e-3


def regress(
    grids: Mapping[str, Grid],
    label: np.ndarray | None,
    name: str,
    target: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """w [d, r], so that x w is close to the features of p for the point x of a place p.

    For points x of other modalities, which share the channels, x w is close to 0, so that they do
    not compete. A code with high bands only is nearly the same at several places (two neighbouring
    bands of the released audio code are at distances of 24 patches): the regression weighs the
    bands so that the features tell them apart.

    Args:
        grids: of all modalities with positions.
        label: [m, d], tokens or queries of the label; None in a model without it.
        name: the modality.
        target: places [m, axes] to features [m, r].
        rng: chooses the points.
    """
    width = grids[name].width
    gram, outer = _RIDGE * np.eye(width), np.zeros((width, 0))
    for other, grid in grids.items():
        index = grid.sample(_SAMPLE, rng)
        x = grid.rows(index, rng)
        gram += x.T @ x / len(x)
        if other == name:
            outer = x.T @ target(grid.places(index)) / len(x)
    if label is not None:
        gram += label.T @ label / len(label)
    return np.linalg.solve(gram, outer)


def reading_logits(
    tokens: Mapping[str, Grid], w: np.ndarray, held: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """[n', m]: the logits of some latents over all tokens, of one clip or of several small ones.

    Args:
        tokens: of all modalities.
        w: [d, r], of the keys.
        held: [n, r], the features of the latents.
        rng: of the tokens' values.
    """
    some = held[np.linspace(0, len(held) - 1, min(_LATENTS, len(held))).astype(int)]
    clips = max(1, _SAMPLE // sum(grid.position.size for grid in tokens.values()))
    parts = [(grid, index) for grid in tokens.values() for index in grid.chunks()]
    return np.concatenate(
        [
            np.concatenate([some @ (grid.rows(index, rng) @ w).T for grid, index in parts], axis=1)
            for _ in range(clips)
        ]
    )


def asking_logits(
    queries: Grid, w: np.ndarray, held: np.ndarray, latents: int, rng: np.random.Generator
) -> np.ndarray:
    """[q, n]: the logits of some queries over all latents; 0 for those of other modalities."""
    own = queries.rows(queries.sample(_QUERIES, rng), rng) @ w @ held.T
    return np.pad(own, ((0, 0), (0, latents - len(held))))


def solve_scale(logits: np.ndarray, target: float) -> float:
    """The factor for `logits` [rows, m] with which the median perplexity is `target`.

    Found by bisection. At most the factor that makes the largest logit _LARGEST.
    """
    low, high = 0.0, _LARGEST / max(float(np.abs(logits).max()), 1e-6)
    for _ in range(30):
        middle = (low + high) / 2
        if np.median(perplexity(middle * logits)) > target:
            low = middle
        else:
            high = middle
    return high


def perplexity(logits: np.ndarray) -> np.ndarray:
    """exp(entropy) of the softmax of each row: [rows, m] to [rows]."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.exp(-np.sum(weights * np.log(weights + 1e-30), axis=1))


def orthonormal(
    count: int, channels: int, rng: np.random.Generator, centred: bool = False
) -> np.ndarray:
    """[count, channels]: random orthonormal rows, each with mean 0 if `centred`."""
    rows = rng.standard_normal((count, channels))
    if centred:
        rows -= rows.mean(axis=1, keepdims=True)
    return np.linalg.qr(rows.T)[0].T
