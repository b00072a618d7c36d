"""Fine latents: by which a query says where it is within the cell of a latent (not in the paper).

Two pixels in the cell of one latent ask nearly the same latents, and the decoder, which sees only
what they answer, can hardly tell the pixels apart. Fine latents answer with the position in the
cell. An axis with c latents is divided into c cells, and each cell into f parts. A point p of the
axis, in [-1, 1], has the digit

    digit(p) = floor((p + 1) / 2 * c * f) mod f

and there is one fine latent for each digit of each axis: 4 + 4 of them tell 16 parts of a cell of y
and x apart. With d latent channels, digit k of all axes together:

    latents    sqrt(d) times the direction of k, which no other latent uses, times LENGTH: the
               encoder adds what they read, the average of all tokens, and the layer norm before the
               decoder then leaves little of it
    decoder    the query's logit for k is contrast * [k is a digit of the query] + shift. The
               shift is fitted to log(share / (1 - share)) + L_places - L_fine, where L is the
               log-sum-exp of the logits of either kind: `share` of the attention goes to fine
               latents, the same to each axis, and the rest to the latents of the place

Both are linear in the query, and fitted by ridge regression. The code of a query holds the digits
of an axis if it has bands of c, 2 c, ... up to c f / 2 cycles over the axis.
"""

import math
from collections.abc import Mapping

import numpy as np

from perceiver_io.training.initialization.attention import regress, regress_rows
from perceiver_io.training.initialization.grids import Grid
from perceiver_io.training.initialization.placement import Placement

LENGTH = 8.0  # of the fine latents, as a multiple of that of the others


def digits(points: np.ndarray, counts: tuple[int, ...], fine: tuple[int, ...]) -> np.ndarray:
    """The digits of all axes in unary: [m, axes] in [-1, 1] to [m, fine latents] of 0 and 1.

    Args:
        points: places.
        counts: cells along each axis.
        fine: parts of a cell along each axis; 1 for an axis without digits.
    """
    return np.concatenate(
        [
            np.eye(f)[np.floor((p + 1) / 2 * c * f).astype(int) % f]
            for p, c, f in zip(points.T, counts, fine)
            if f > 1
        ],
        axis=1,
    )


def fine_queries(
    queries: Mapping[str, Grid],
    label: np.ndarray | None,
    counts: tuple[int, ...],
    placement: Placement,
    place: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """[d, fine latents]: a query x has the logits x w for the fine latents.

    Args:
        queries: of all modalities with positions.
        label: [1, d], the label's query; None in a model without it.
        counts: video latents along each axis.
        placement: what the start aims at.
        place: [d, n], by which a query has the logits x w for the n latents of the video.
        rng: chooses the points.
    """
    w = placement.fine_contrast * regress(
        queries, label, 'video', lambda points: digits(points, counts, placement.fine), rng
    )
    share = math.log(placement.fine_share / (1 - placement.fine_share))

    def shift(index: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (share + log_sum_exp(x @ place) - log_sum_exp(x @ w))[:, None]

    return w + regress_rows(queries, label, 'video', shift, rng)


def log_sum_exp(x: np.ndarray) -> np.ndarray:
    """[rows, m] to [rows]."""
    top = x.max(axis=1)
    return top + np.log(np.exp(x - top[:, None]).sum(axis=1))
