"""Forty short trainings from the placed start, of models of all sizes."""

import itertools

import numpy as np
import pytest
from helpers.placed import SUBSETS, check_it_learns, with_heads

SIZES = [(1, 20, 28), (2, 16, 16), (3, 12, 20), (16, 8, 12), (64, 8, 8)]
WIDTHS = dict(samples_per_frame=64, latent_channels=64, video_bands=4)


def cases() -> list:
    """40 of all combinations, spread evenly over them and in a fixed order."""
    every = list(
        itertools.product(
            SUBSETS, (1, 4), (1, 2), (16, 17, 49, 196, 784), SIZES, ('float32', 'bfloat16')
        )
    )
    chosen = np.random.default_rng(0).permutation(len(every))[:40]
    return [every[index] for index in chosen]


@pytest.mark.slow
@pytest.mark.parametrize('index', range(40))
def test_it_learns(index):
    modalities, heads, blocks, latents, (frames, height, width), dtype = cases()[index]
    config = with_heads(
        heads,
        **WIDTHS,
        modalities=modalities,
        blocks=blocks,
        latents=latents,
        frames=frames,
        height=height,
        width=width,
        dtype=dtype,
    )
    check_it_learns(config, 'muon' if index % 2 else 'adamw')
