"""Norms of gradients by group: every array of a model is in one."""

import jax
import numpy as np
import pytest

from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training import gradient_norms


def test_every_module_has_a_group_and_the_norms_add_up():
    shapes = jax.eval_shape(Autoencoder(AutoencoderConfig()).init, jax.random.key(0))
    ones = jax.tree.map(lambda leaf: np.ones((2,) * leaf.ndim, np.float32), shapes)
    norms = gradient_norms.norms_by_group(ones)
    assert set(norms) == {
        f'gradient_norm/{name}'
        for name in ('latents', 'encoder', 'self_attends', 'decoder', 'video', 'audio', 'label')
    }
    total = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(ones))
    assert sum(norm**2 for norm in norms.values()) == pytest.approx(total)
    assert norms['gradient_norm/latents'] == pytest.approx(2)
    video = ('projection_postprocessor/linear', 'multimodal_decoder/~decoder_query/image_padding')
    assert {gradient_norms.group(module) for module in video} == {'video'}
