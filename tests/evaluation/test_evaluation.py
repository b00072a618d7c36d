"""What the numbers of Table 5 mean, on arrays small enough to reckon by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.core.clip import Clip, Output
from perceiver_io.data.loader import Batch
from perceiver_io.distributed.sharding import MeshConfig, make_mesh
from perceiver_io.evaluation import table5
from perceiver_io.evaluation.evaluation import evaluate, make_eval_step
from perceiver_io.metrics import quality
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.models.autoencoder import AutoencoderConfig

NAMES = ['one.mp4', 'two.mp4', 'three.mp4']
CLASSES = ('cat', 'dog', 'owl')


class BlackAndSilent:
    """A model that answers black, silence, and the class scores it is given."""

    def reconstruct(self, params, *, video, audio):
        label = jnp.broadcast_to(params['logits'], (len(video), 3))
        return Output(jnp.zeros_like(video), jnp.zeros_like(audio), label)


def batch_of(*lines, failed=()):
    """A batch of (record, grey level, sound level, label); None for a line of padding."""
    lines = [line or (-1, 0, 0, -1) for line in lines]
    records, greys, sounds, labels = (np.array(column, np.int32) for column in zip(*lines))
    video = np.broadcast_to(greys[:, None, None, None, None], (len(lines), 2, 2, 2, 3))
    audio = np.broadcast_to(sounds[:, None, None], (len(lines), 8, 1))
    reason = np.zeros((len(lines), 160), np.uint8)
    reason[:, :6] = list(b'broken')
    broken = np.array([line in failed for line in range(len(lines))])
    return Batch(
        Clip(video.astype(np.uint8), audio.astype(np.int16), labels),
        mask=(records >= 0) & ~broken,
        record=records,
        start=np.zeros(len(lines), np.float32),
        failed=np.where(broken, records, -1).astype(np.int32),
        reason=reason,
    )


def run(*batches, logits=(0.0, 1.0, 2.0)):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    return evaluate(
        make_eval_step(BlackAndSilent(), mesh),
        {'logits': jnp.array(logits)},
        batches,
        names=NAMES,
        classes=CLASSES,
        weights=LossWeights(video=1.0, audio=0.5, label=0.0),
        mesh=mesh,
    )


def test_psnr_has_peak_one_and_a_ceiling():
    error = jnp.array([1.0, 0.01, 0.0])
    np.testing.assert_allclose(quality.psnr(error), [0, 20, 100], atol=1e-5)


def test_reconstructions_are_clipped_before_they_are_compared():
    ours, target = jnp.array([[2.0, -3.0]]), jnp.array([[1.0, 0.0]])
    assert quality.squared_error(ours, target, 0.0)[0] == 0
    assert quality.squared_error(ours, target, -1.0)[0] == 0.5


def test_ties_and_unknown_labels_are_not_hits():
    logits = jnp.array([[3.0, 2.0, 1.0], [3.0, 3.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    label = jnp.array([0, 0, -1, 1])
    assert quality.in_top(logits, label, 1).tolist() == [True, False, False, False]
    assert quality.in_top(logits, label, 2).tolist() == [True, True, False, True]


def test_every_clip_counts_once_whatever_the_batches():
    lines = [(0, 51, 3277, 2), (1, 102, 3277, 2), (2, 255, 3277, 0)]
    whole = run(batch_of(*lines))
    parted = run(batch_of(*lines[:2]), batch_of(lines[2], None))
    assert [row['name'] for row in parted.clips] == NAMES
    assert parted.summary == pytest.approx(whole.summary)
    # Black against grey levels of 0.2, 0.4 and 1.
    expected = -10 * np.log10([0.04, 0.16, 1.0])
    np.testing.assert_allclose([row['video_psnr'] for row in parted.clips], expected, atol=1e-4)
    assert parted.summary['video_psnr'] == pytest.approx(expected.mean(), abs=1e-4)
    assert parted.summary['audio_psnr'] == pytest.approx(20, abs=1e-3)
    assert parted.summary['loss'] == pytest.approx((0.2 + 0.4 + 1) / 3 + 0.5 * 0.1, abs=1e-4)
    assert parted.summary['top_1'] == pytest.approx(2 / 3)
    assert parted.summary['clips'] == parted.summary['labelled_clips'] == 3


def test_errors_are_averaged_over_the_windows_of_a_clip_before_the_psnr():
    result = run(batch_of((0, 51, 3277, 1), (0, 102, 3277, 1)))
    assert len(result.clips) == 1
    assert result.clips[0]['video_psnr'] == pytest.approx(10, abs=1e-4)  # of (0.04 + 0.16) / 2


def test_scores_are_averaged_over_the_windows_and_then_ranked():
    class PerWindow(BlackAndSilent):
        def reconstruct(self, params, *, video, audio):
            return (
                super()
                .reconstruct(params, video=video, audio=audio)
                ._replace(label=params['logits'])
            )

    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    scores = jnp.array([[0.6, 0.4, 1e-9], [1e-9, 0.45, 0.55]])  # dog is second, and best in all
    result = evaluate(
        make_eval_step(PerWindow(), mesh),
        {'logits': jnp.log(scores)},
        [batch_of((0, 51, 3277, 1), (0, 51, 3277, 1))],
        names=NAMES,
        classes=CLASSES,
        weights=LossWeights(),
        mesh=mesh,
    )
    assert result.clips[0]['predicted'] == 'dog'
    assert result.clips[0]['top_5_classes'] == 'dog; cat; owl'
    assert result.clips[0]['score'] == pytest.approx(0.425, abs=1e-4)
    assert result.summary['top_1'] == 1


def test_a_clip_with_a_failed_window_is_left_out_and_named():
    result = run(
        batch_of((0, 51, 3277, 2), (1, 255, 3277, 0), (0, 51, 3277, 2)),
        batch_of((1, 0, 0, 0), failed=[0]),
    )
    assert [row['name'] for row in result.clips] == ['one.mp4']
    assert result.skipped == [('two.mp4', 'broken')]
    assert result.summary['clips'] == 1
    assert result.summary['top_1'] == 1
    assert result.predictors['commonest_class'] == 1


def test_nothing_readable_is_an_error():
    with pytest.raises(ValueError, match='none of the 1 clips.*one.mp4.*broken'):
        run(batch_of((0, 0, 0, 0), failed=[0]))
    with pytest.raises(ValueError, match='nothing to evaluate'):
        run()


def test_unlabelled_and_silent_clips_count_where_they_can():
    result = run(batch_of((0, 51, 0, 2), (1, 102, 3277, -1), (2, 102, 3277, 0)))
    assert [row['top_1'] for row in result.clips] == [1, None, 0]
    assert [row['audio_psnr'] is None for row in result.clips] == [True, False, False]
    assert result.summary['top_1'] == 0.5
    assert result.summary['audio_psnr'] == pytest.approx(20, abs=1e-3)
    assert result.predictors['silence'] == pytest.approx(20, abs=1e-3)
    assert (result.summary['clips'], result.summary['labelled_clips']) == (3, 2)


def test_predictors_that_learned_nothing():
    batch = batch_of((0, 0, 3277, 1), (1, 0, 3277, 1), (2, 0, 3277, 2))
    video = batch.clip.video.copy()
    video[0, 1] = 255  # black, then white: the mean in time is grey, as the mean colour is
    video[1, :, :, 0] = 255  # white on the left for ever: the mean in time is perfect
    result = run(batch._replace(clip=batch.clip._replace(video=video)))
    grey = -10 * np.log10(0.25)
    np.testing.assert_allclose(
        [row['mean_colour_psnr'] for row in result.clips], [grey, grey, 100], atol=1e-3
    )
    np.testing.assert_allclose(
        [row['mean_frame_psnr'] for row in result.clips], [grey, 100, 100], atol=1e-3
    )
    assert result.predictors['commonest_class'] == pytest.approx(2 / 3)
    assert result.predictors['five_commonest_classes'] == 1


def test_compression_is_the_papers():
    for latents, by_tokens, by_values in ((784, 88, 6.1), (392, 176, 12.2), (196, 352, 24.3)):
        config = AutoencoderConfig(latents=latents)
        assert table5.compression(config) == by_tokens
        assert table5.raw_compression(config) == pytest.approx(by_values, abs=0.06)
    sound = AutoencoderConfig(modalities=('audio',))
    assert table5.compression(sound) == 1920 * sound.token_channels / (784 * 512)
    assert table5.raw_compression(sound) == 30720 / (784 * 512)


def test_the_table_is_set_in_columns_and_marks_the_papers_row():
    result = run(batch_of((0, 51, 3277, 2), (1, 51, 3277, 0)))
    config = AutoencoderConfig(latents=392)
    row = table5.results(config, result, [('three.mp4', 'it is too short')])
    assert row['skipped'] == 1
    assert row['skipped_clips'] == [{'name': 'three.mp4', 'reason': 'it is too short'}]
    lines = table5.text(row, config).splitlines()
    ours = next(line for line in lines if line.startswith('this run'))
    assert ours.split() == [
        'this',
        'run,',
        '392',
        'x',
        '512',
        '176.0x',
        '12.2x',
        '20.00',
        '13.98',
        '50.0%',
        '100.0%',
    ]
    marked = [line for line in lines if 'this size' in line]
    assert len(marked) == 1 and '25.33' in marked[0]
    assert ours.index('13.98') == marked[0].index('24.27')
    assert len({len(line) for line in lines if line.startswith('---')}) == 1


def test_what_is_not_a_number_is_null_in_json():
    assert table5.to_json({'a': {'b': float('nan')}, 'c': [1]}).split() == (
        '{ "a": { "b": null }, "c": [ 1 ] }'.split()
    )
