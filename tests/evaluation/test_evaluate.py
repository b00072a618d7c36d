"""What the results mean, on clips small enough to compute them by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.evaluation_batches import (
    EMPTY,
    NAMES,
    BlackAndSilent,
    batch_of,
    evaluate,
    make_pass,
    results_of,
)

LINES = [(0, 51, 3277, 2), (1, 102, 3277, 2), (2, 255, 3277, 0)]  # greys of 0.2, 0.4 and 1
PARAMS = {'logits': jnp.array((0.0, 1.0, 2.0))}


def column(result, name):
    return [row[name] for row in result.clip_table()]


def test_every_clip_counts_once_whatever_the_batches():
    whole = evaluate(batch_of(*LINES))
    parted = evaluate(batch_of(*LINES[:2]), batch_of(LINES[2], EMPTY))
    assert column(parted, 'name') == NAMES
    assert parted.summary == pytest.approx(whole.summary)
    expected = -10 * np.log10([0.04, 0.16, 1.0])
    np.testing.assert_allclose(column(parted, 'video_psnr'), expected, atol=1e-4)
    assert parted.summary['video_psnr'] == pytest.approx(expected.mean(), abs=1e-4)
    assert parted.summary['video_psnr_pooled'] == pytest.approx(-10 * np.log10(0.4), abs=1e-4)
    assert parted.summary['audio_psnr'] == pytest.approx(20, abs=1e-3)
    assert parted.summary['audio_psnr_peak_2'] == pytest.approx(26.0206, abs=1e-3)
    assert parted.summary['loss'] == pytest.approx((0.2 + 0.4 + 1) / 3 + 0.5 * 0.1, abs=1e-4)
    assert parted.summary['top_1'] == pytest.approx(2 / 3)
    assert parted.summary['clips'] == parted.summary['labelled_clips'] == 3


def test_evaluations_of_parts_join_to_that_of_the_whole():
    job = make_pass()
    whole = job.run(PARAMS, [batch_of(*LINES)])
    parts = [job.run(PARAMS, [batch_of(line, EMPTY, EMPTY)]) for line in reversed(LINES)]
    assert results_of(job, *parts).scalars() == results_of(job, whole).scalars()
    assert results_of(job, *parts).intervals() == results_of(job, whole).intervals()


def test_errors_are_averaged_over_the_windows_of_a_clip_before_the_psnr():
    result = evaluate(batch_of((0, 51, 3277, 1), (0, 102, 3277, 1)), windows=2)
    assert column(result, 'video_psnr') == pytest.approx([10], abs=1e-4)  # of (0.04 + 0.16) / 2


def test_scores_are_averaged_over_the_windows_and_then_ranked():
    class PerWindow(BlackAndSilent):
        def reconstruct(self, params, *, video, audio):
            output = super().reconstruct({'logits': 0.0}, video=video, audio=audio)
            return output._replace(label=params['logits'])

    scores = jnp.array([[0.6, 0.4, 1e-9], [1e-9, 0.45, 0.55]])  # dog is second, and best in all
    result = evaluate(
        batch_of((0, 51, 3277, 1), (0, 51, 3277, 1)),
        logits=jnp.log(scores),
        windows=2,
        model=PerWindow(),
    )
    [row] = result.clip_table()
    assert (row['predicted'], row['top_5_classes']) == ('dog', 'dog; cat; owl')
    assert row['score'] == pytest.approx(0.425, abs=1e-4)
    assert result.summary['top_1'] == 1


def test_a_clip_with_a_failed_window_is_left_out_and_named():
    result = evaluate(
        batch_of((0, 51, 3277, 2), (1, 255, 3277, 0), (0, 51, 3277, 2)),
        batch_of((1, 0, 0, 0), EMPTY, EMPTY, failed=(0,)),
        windows=2,
    )
    assert column(result, 'name') == ['one.mp4']
    assert [name for name, _ in result.skipped] == ['two.mp4']
    assert result.summary['clips'] == 1
    assert result.baseline_results['commonest_class'] == 1


def test_unlabelled_and_silent_clips_count_where_they_can():
    result = evaluate(batch_of((0, 51, 0, 2), (1, 102, 3277, -1), (2, 102, 3277, 0)))
    assert column(result, 'top_1') == [1, None, 0]
    for name in ('audio_psnr', 'audio_mse', 'si_sdr', 'silence_psnr'):
        assert [value is None for value in column(result, name)] == [True, False, False], name
    assert result.summary['top_1'] == 0.5
    assert result.summary['audio_psnr'] == pytest.approx(20, abs=1e-3)
    assert result.baseline_results['silence'] == pytest.approx(20, abs=1e-3)
    assert (result.summary['clips'], result.summary['labelled_clips']) == (3, 2)


def test_a_model_that_predicts_nan_is_not_left_out():
    class Broken(BlackAndSilent):
        def reconstruct(self, params, *, video, audio):
            output = super().reconstruct(params, video=video, audio=audio)
            return output._replace(video=output.video + jnp.nan)

    result = evaluate(batch_of(*LINES), model=Broken())
    assert np.isnan(result.summary['video_psnr']) and np.isnan(result.summary['loss'])
    assert result.summary['audio_psnr'] == pytest.approx(20, abs=1e-3)


def test_baselines():
    batch = batch_of((0, 0, 3277, 1), (1, 0, 3277, 1), (2, 0, 3277, 2))
    video = batch.clip.video.copy()
    video[0, 1] = 255  # black, then white: the mean frame is grey, as the mean colour is
    video[1, :, :, 0] = 255  # white on the left in every frame: the mean frame is exact
    result = evaluate(batch._replace(clip=batch.clip._replace(video=video)))
    grey = -10 * np.log10(0.25)
    np.testing.assert_allclose(column(result, 'mean_colour_psnr'), [grey, grey, 100], atol=1e-3)
    np.testing.assert_allclose(column(result, 'mean_frame_psnr'), [grey, 100, 100], atol=1e-3)
    assert result.baseline_results['commonest_class'] == pytest.approx(2 / 3)
    assert result.baseline_results['five_commonest_classes'] == 1


def test_intervals_hold_the_results_and_need_two_clips():
    result = evaluate(batch_of((0, 51, 3277, 2), (1, 102, 0, -1), (2, 255, 0, -1)))
    intervals = result.intervals()
    low, high = intervals['video_psnr']
    assert 0 <= low < result.summary['video_psnr'] < high <= 13.98
    assert not {'audio_psnr', 'top_1'} & intervals.keys()  # one clip has audio, one a label


def test_windows_to_show_are_kept_from_the_pass():
    job = make_pass()
    batches = [batch_of(*LINES[:2]), batch_of(LINES[2], EMPTY)]
    [first, last] = job.run(PARAMS, batches, show={0, 2}).shown
    assert (first.record, last.record) == (0, 2)
    assert (last.original.video == 255).all() and (first.original.video == 51).all()
    assert last.reconstruction.video.dtype == np.uint8 and not last.reconstruction.video.any()
    assert last.reconstruction.audio.shape == (8, 1)
    np.testing.assert_allclose(last.reconstruction.label.sum(), 1, rtol=1e-6)


def test_save_gets_every_clip_with_its_batch():
    job, saved = make_pass(), []
    batches = [
        batch_of((0, 0, 1, 0), (0, 0, 1, 0), (1, 0, 1, 0)),
        batch_of((1, 0, 1, 0), EMPTY, EMPTY),
    ]
    job.run(PARAMS, batches, windows=2, save=saved.append)
    assert [[row.record for row in part.rows] for part in saved] == [[0], [1]]
