"""Bootstrap intervals."""

import numpy as np
from scipy import stats

from perceiver_io.metrics import bootstrap


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(3).normal(10, 2, 400)
    means = [weights @ values / 400 for weights in bootstrap.resampled_weights(400)]
    low, high = bootstrap.interval(np.array(means))
    error = 1.96 * values.std() / 20
    np.testing.assert_allclose([low, high], values.mean() + np.array([-error, error]), atol=0.03)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(4).gamma(2, 3, 100)
    means = [weights @ values / 100 for weights in bootstrap.resampled_weights(100)]
    expected = stats.bootstrap(
        [values], np.mean, n_resamples=20_000, method='percentile', rng=np.random.default_rng(0)
    ).confidence_interval
    np.testing.assert_allclose(bootstrap.interval(np.array(means)), expected, atol=0.1)


def test_every_resample_draws_as_many_clips_as_there_are():
    draws = list(bootstrap.resampled_weights(7))
    assert len(draws) == 1000 and {int(draw.sum()) for draw in draws} == {7}
    again = list(bootstrap.resampled_weights(7))
    np.testing.assert_array_equal(draws, again)
