"""The placed start: what latents and queries read."""

import chex
import numpy as np
import pytest
from helpers import fresh
from helpers.placed import SMALL, SUBSETS, make_config, smooth_clip, with_heads

from perceiver_io.core.errors import UserError
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.initialization import attention, grids, places
from perceiver_io.training.initialization.placed import placed_parameters
from perceiver_io.training.initialization.placement import Placement


class Reading:
    """What the first cross-attention and the decoder's read, by the parameters of a start."""

    def __init__(self, config: AutoencoderConfig, placement: Placement | None = None):
        self.config, placement = config, placement or Placement()
        self.video_mean = placement.video_mean
        self.before = fresh.fresh_parameters(config)
        self.params = placed_parameters(self.before, config, placement, seed=0)
        self.latents = self.params[fresh.LATENTS]['pos_embs']
        self.places = places.latent_places(config, placement)
        self.rng = np.random.default_rng(1)

    def own(self, name: str) -> slice:
        """Which latents are of a modality."""
        start = 0
        for other, place in self.places.items():
            if other == name:
                return slice(start, start + len(place.points))
            start += len(place.points)
        raise KeyError(name)

    def of_latents(self, name: str, clips: int = 8):
        """Weights [heads, latents of the modality, tokens] of several clips, and the own tokens."""
        weights = []
        for _ in range(clips):
            tokens = fresh.dense_tokens(self.config, self.params, self.rng, self.video_mean)
            tokens.pop('label', None)
            logits = fresh.logits(
                self.params,
                fresh.ENCODER,
                self.config.cross_attention_heads,
                self.latents[self.own(name)],
                np.concatenate(list(tokens.values())),
            )
            weights.append(fresh.softmax(logits))
        starts = dict(zip(tokens, np.cumsum([0, *map(len, tokens.values())])))
        return np.stack(weights), slice(starts[name], starts[name] + len(tokens[name]))

    def of_queries(self, name: str, index) -> np.ndarray:
        """Weights [heads, q, n] of the queries `index` of a modality, or of the label."""
        indices = {other: [0] for other in ('audio', 'video') if other in self.config.modalities}
        if name != 'label':
            indices[name] = index
        queries = fresh.dense_queries(self.config, self.params, indices)
        return fresh.softmax(
            fresh.logits(
                self.params, fresh.DECODER, self.config.decoder_heads, queries[name], self.latents
            )
        )

    def distance_of_queries(self, name: str, index) -> float:
        """Distance of queries from the latents that they read most; 95% of them have less.

        In distances of neighbouring latents, over all axes.
        """
        place = self.places[name]
        most = self.of_queries(name, index)[..., self.own(name)].argmax(-1)
        distance = np.abs(place.points[most] - self.grid(name).places(index))
        return float(np.quantile(distance * np.array(place.counts) / 2, 0.95))

    def grid(self, name: str, of=grids.query_grids) -> grids.Grid:
        return of(self.params, self.config)[name]


def perplexity(weights: np.ndarray) -> float:
    return float(np.median(np.exp(-np.sum(weights * np.log(weights + 1e-30), axis=-1))))


CASES = {
    'all': make_config(),
    'audio, two blocks': make_config(modalities=SUBSETS[5], latents=16, blocks=2),
    'one frame, four heads': with_heads(4, latents=16, frames=1, height=20, width=28),
}
SLOW_CASES = {
    'video, audio': make_config(modalities=SUBSETS[1]),
    'video, label': make_config(modalities=SUBSETS[2]),
    'audio, label': make_config(modalities=SUBSETS[3], latents=16),
    'video': make_config(modalities=SUBSETS[4]),
    'odd grid, four heads': with_heads(4, latents=49, frames=3, height=28, width=36),
    'many latents, two blocks': make_config(latents=100, frames=8, blocks=2),
}


@pytest.fixture(
    scope='module',
    params=[*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_CASES)],
)
def reading(request) -> Reading:
    return Reading((CASES | SLOW_CASES)[request.param])


def test_the_tree_is_the_originals(reading):
    chex.assert_trees_all_equal_shapes_and_dtypes(reading.before, reading.params)
    chex.assert_tree_all_finite(reading.params)


def test_latents_read_around_their_places_as_many_tokens_as_asked(reading):
    for name, place in reading.places.items():
        weights, own = reading.of_latents(name)
        share = (own.stop - own.start) / len(place.points)
        assert perplexity(weights) == pytest.approx(share, rel=0.1)
        inside = weights[..., own]
        assert np.median(inside.sum(-1)) > 0.95
        at = reading.grid(name, lambda *a: grids.token_grids(*a, 0.45)).places(
            np.arange(inside.shape[-1])
        )
        gap = 2 / np.array(place.counts)
        centre = inside.mean(0) @ at / inside.mean(0).sum(-1, keepdims=True)
        off = np.abs(centre - place.points) / gap
        assert np.all(np.median(off, axis=(0, 1)) < 0.25), off
        peak = at[inside.mean(axis=(0, 1)).argmax(-1)]
        assert np.quantile(np.abs(peak - place.points) / gap, 0.95) <= 1, name


def test_queries_read_the_latents_of_their_places(reading):
    for name, place in reading.places.items():
        index = np.unique(np.linspace(0, reading.grid(name).position.size - 1, 400).astype(int))
        weights = reading.of_queries(name, index)
        target = np.prod([min(2, count) for count in place.counts])
        assert perplexity(weights) == pytest.approx(target, rel=0.1)
        assert np.median(weights[..., reading.own(name)].sum(-1)) > 0.98
        assert reading.distance_of_queries(name, index) <= 1


@pytest.mark.parametrize('latent_channels', [32, 64])
def test_queries_find_the_places_in_encoded_latents(latent_channels):
    """Where the features of the places fill nearly all channels, too."""
    config = make_config(
        height=48, width=48, latents=160, latent_channels=latent_channels, self_attends=2
    )
    reading = Reading(config)
    clip = smooth_clip(config, 1)
    reading.latents = np.asarray(
        Autoencoder(config).encode(reading.params, video=clip.video, audio=clip.audio)
    )[0]
    for name in reading.places:
        index = np.arange(0, reading.grid(name).position.size, 3)
        assert reading.distance_of_queries(name, index) < 0.9, name


def test_the_labels_query_reads_all_latents_alike(reading):
    if 'label' in reading.config.modalities:
        weights = reading.of_queries('label', None)
        assert perplexity(weights) > 0.9 * reading.config.latents


def test_original_parameters_read_nearly_everything():
    """What the placed start is for: the same measurements, with the original's values."""
    placed = Reading(CASES['all'])
    placed.params, placed.latents = placed.before, placed.before[fresh.LATENTS]['pos_embs']
    weights, _ = placed.of_latents('video')
    assert perplexity(weights) > 0.25 * weights.shape[-1]


@pytest.mark.slow
@pytest.mark.parametrize('heads', [1, 4])
@pytest.mark.parametrize('frames, height, width', [(1, 12, 20), (16, 32, 32), (64, 8, 8)])
def test_784_latents(heads, frames, height, width):
    sizes = dict(frames=frames, height=height, width=width)
    config = with_heads(heads, **sizes, latents=784, latent_channels=256)
    before = fresh.fresh_parameters(config)
    after = placed_parameters(before, config, Placement(), seed=0)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    chex.assert_tree_all_finite(after)


def test_the_knobs_set_what_they_say():
    knobs = Placement(
        tokens_per_latent=0.5,
        audio_tokens_per_latent=2.0,
        latents_per_query=1.5,
        video_grid=(2, 2, 4),
        time_ends=True,
        readouts=0.5,
        self_attends=0.0,
        video_mean=0.3,
    )
    config = CASES['all']
    reading = Reading(config, knobs)
    assert reading.places['video'].counts == (2, 2, 4)
    assert reading.places['video'].points[:, 0].max() == 1 - 1 / config.frames
    assert len(reading.places['audio'].points) == 24 - 16
    video, _ = reading.of_latents('video')
    audio, _ = reading.of_latents('audio')
    assert perplexity(video) == pytest.approx(0.5 * 256 / 16, rel=0.1)
    assert perplexity(audio) == pytest.approx(2 * 32 / 8, rel=0.1)
    index = np.arange(0, 4096, 7)
    assert perplexity(reading.of_queries('video', index)) == pytest.approx(1.5**3, rel=0.1)
    readout = 'projection_postprocessor/linear'
    np.testing.assert_array_equal(reading.params[readout]['b'], np.float32(0.3))
    np.testing.assert_allclose(reading.params[readout]['w'], 0.5 * reading.before[readout]['w'])
    zero = {
        module for module, leaves in reading.params.items() if not leaves.get('w', np.ones(1)).any()
    }
    assert zero == {
        f'encoder/~/self_attention/{output}' for output in ('attention/linear_3', 'mlp/linear_1')
    }


@pytest.mark.slow
def test_shuffled_latents_are_the_same_in_another_order():
    before = fresh.fresh_parameters(CASES['all'])
    plain, shuffled = (
        placed_parameters(before, CASES['all'], Placement(shuffle=shuffle), seed=0)
        for shuffle in (False, True)
    )
    one, other = (dict(params[fresh.LATENTS])['pos_embs'] for params in (plain, shuffled))
    assert (one != other).any()
    assert (one[np.lexsort(one.T)] == other[np.lexsort(other.T)]).all()
    del plain[fresh.LATENTS], shuffled[fresh.LATENTS]
    chex.assert_trees_all_equal(plain, shuffled)


@pytest.mark.slow
def test_the_released_size():
    reading = Reading(AutoencoderConfig())
    audio, own = reading.of_latents('audio', clips=1)
    assert perplexity(audio) == pytest.approx(1920 / 208, rel=0.2)
    # The two lowest bands of the code repeat every 24 patches: 2.6 latents. It is no comb.
    at = reading.grid('audio').places(np.arange(1920))
    peak = at[audio[0, 0][:, own].argmax(-1)]
    assert np.quantile(np.abs(peak - reading.places['audio'].points) * 104, 0.95) < 1
    video, _ = reading.of_latents('video', clips=1)
    assert perplexity(video) == pytest.approx(50176 / 576, rel=0.1)


# Places.


@pytest.mark.parametrize(
    'count, shape, grid',
    [
        (588, (16, 56, 56), (4, 12, 12)),
        (144, (1, 12, 12), (1, 12, 12)),
        (1, (4, 8, 8), (1, 1, 1)),
        (8, (64, 1, 1), (8, 1, 1)),
    ],
)
def test_best_grid(count, shape, grid):
    assert places.best_grid(count, shape) == grid


def test_best_grid_fits():
    shape = (3, 7, 9)
    for count in range(1, 60):
        grid = places.best_grid(count, shape)
        assert np.prod(grid) <= count
        assert all(n <= size for n, size in zip(grid, shape))


def test_places_are_the_centres_of_cells():
    found = places.grid_points(places.centres(2), places.centres(1))
    np.testing.assert_allclose(found, [[-0.5, 0.0], [0.5, 0.0]])


@pytest.mark.parametrize(
    'layers, expected',
    [(1, [0]), (2, [-0.75, 0.75]), (3, [-0.75, 0, 0.75]), (4, [-0.75, -0.25, 0.25, 0.75])],
)
def test_places_from_the_first_to_the_last_frame(layers, expected):
    config = make_config(modalities=('video',), frames=4, latents=16 * layers)
    placement = Placement(video_grid=(layers, 4, 4), time_ends=True)
    points = places.latent_places(config, placement)['video'].points
    np.testing.assert_allclose(np.unique(points[:, 0]), expected, atol=1e-12)
    centres = places.centres(4)
    np.testing.assert_array_equal(points[:16, 1:], places.grid_points(centres, centres))


def test_latents_read_the_first_and_the_last_frame():
    config = make_config(frames=4, latents=40)
    reading = Reading(
        config,
        Placement(video_grid=(2, 4, 4), time_ends=True, time_spread=0.5, tokens_per_latent=0.5),
    )
    weights, own = reading.of_latents('video')
    by_frame = weights[..., own].mean(axis=(0, 1)).reshape(2, 16, 4, -1).sum(axis=-1)
    assert by_frame[0, :, 0].mean() > 0.95, by_frame
    assert by_frame[1, :, 3].mean() > 0.95, by_frame


@pytest.mark.slow
@pytest.mark.parametrize('modalities', SUBSETS)
@pytest.mark.parametrize('latents', [1, 2, 3, 17, 160])
def test_every_latent_has_a_place_of_its_own(modalities, latents):
    config = make_config(modalities=modalities, latents=latents)
    found = places.latent_places(config, Placement())
    assert sum(len(place.points) for place in found.values()) == latents
    params = placed_parameters(fresh.fresh_parameters(config), config, Placement(), 0)
    chex.assert_tree_all_finite(params)
    if latents <= 17:  # a grid of the rest may repeat places
        rows = params[fresh.LATENTS]['pos_embs']
        assert len(np.unique(rows.round(3), axis=0)) == latents


def test_features_are_the_kernel():
    axes = tuple(map(places.centres, (6, 1, 4)))
    features = places.Features(axes, widths=(2 / 6, 2, 2 / 4))
    points = places.grid_points(*axes)
    gram = features(points) @ features(points).T
    expected = sum(
        places.kernel(points[:, axis], points[:, axis], 2 / count)
        for axis, count in ((0, 6), (2, 4))
    )
    np.testing.assert_allclose(gram, expected, atol=0.02)


def test_a_scale_that_cannot_be_reached_is_bounded():
    logits = np.zeros((2, 8))
    assert np.isfinite(attention.solve_scale(logits, 2.0))
    alike = np.tile([1.0, 1.0, 0.0, 0.0], (3, 1))  # never fewer than two
    assert attention.solve_scale(alike, 1.0) == pytest.approx(100)


@pytest.mark.parametrize(
    'knobs, says',
    [
        (dict(video_grid=(2, 4, 4)), 'it must fit into the 24'),
        (dict(video_grid=(1, 4, 6)), 'leave some for the audio'),
        (dict(video_grid=(0, 4, 6)), 'three positive numbers'),
        (dict(audio_share=1.0), 'audio_share=1.0'),
        (dict(spread=0.0), 'spread=0.0'),
        (dict(latents_per_query=0.5), 'latents_per_query=0.5'),
        (dict(readouts=-1.0), 'readouts=-1.0'),
    ],
)
def test_impossible_knobs_are_named_before_anything_starts(knobs, says):
    values = {'model': SMALL | {'initialization': 'placed'}, 'initialization': knobs}
    with pytest.raises(UserError, match=says):
        Experiment.from_dict(values)


def test_audio_leaves_the_video_a_latent():
    model = AutoencoderConfig(**SMALL | {'latents': 4})
    counts = {
        name: len(found.points)
        for name, found in places.latent_places(model, Placement(audio_share=0.9)).items()
    }
    assert counts == {'audio': 3, 'video': 1}


def test_heads_without_room_are_named():
    model = SMALL | dict(latent_channels=8, decoder_heads=4, initialization='placed')
    with pytest.raises(UserError, match='latent_channels=8'):
        Experiment.from_dict({'model': model})
    Experiment.from_dict({'model': model | {'initialization': 'original'}})
