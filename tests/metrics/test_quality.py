"""PSNR, accuracy and the rule for silence, with values computed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.core.clip import Clip, Output
from perceiver_io.metrics import quality
from perceiver_io.metrics.losses import LossWeights, example_losses


@pytest.mark.parametrize('array', [jnp.array, np.array])
def test_psnr_has_peak_one_and_a_maximum(array):
    np.testing.assert_allclose(quality.psnr(array([1.0, 0.01, 0.0])), [0, 20, 100], atol=1e-5)


def test_predictions_are_clipped_before_they_are_compared():
    prediction, target = jnp.array([[2.0, -3.0]]), jnp.array([[1.0, 0.0]])
    assert quality.squared_error(prediction, target, 0.0)[0] == 0
    assert quality.squared_error(prediction, target, -1.0)[0] == 0.5


@pytest.mark.parametrize('array', [jnp.array, np.array])
def test_ties_and_unknown_labels_are_not_hits(array):
    logits = array([[3.0, 2.0, 1.0], [3.0, 3.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    label = array([0, 0, -1, 1])
    assert quality.in_top(logits, label, 1).tolist() == [True, False, False, False]
    assert quality.in_top(logits, label, 2).tolist() == [True, True, False, True]


@pytest.mark.parametrize('array', [jnp.array, np.array])
def test_scores_that_are_not_numbers_are_not_hits(array):
    logits = array([[np.nan] * 6, [np.nan, 9, 1, 2, 3, 4]])
    assert quality.in_top(logits, array([2, 0]), 5).tolist() == [False, False]
    assert quality.in_top(logits, array([2, 1]), 1).tolist() == [False, False]  # one may be higher


def test_one_sample_that_is_not_zero_makes_audio():
    audio = np.zeros((4, 1), np.int16)
    assert not quality.has_sound(audio)
    audio[3] = 1
    assert quality.has_sound(audio)


def test_the_loss_of_an_example_is_weighted_and_leaves_out_unknown_labels():
    output = Output(
        video=jnp.full((2, 1, 1, 1, 3), 0.5), audio=jnp.zeros((2, 4, 1)), label=jnp.zeros((2, 4))
    )
    target = Clip(
        video=jnp.zeros((2, 1, 1, 1, 3)), audio=jnp.full((2, 4, 1), 0.25), label=jnp.array([1, -1])
    )
    losses = example_losses(output, target, LossWeights(video=2.0, audio=4.0, label=10.0))
    np.testing.assert_allclose(losses, [2 * 0.5 + 4 * 0.25 + 10 * np.log(4), 2.0], rtol=1e-6)
