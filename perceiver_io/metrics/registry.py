"""The metrics and the baselines of an evaluation: add one here, and every output shows it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Clip, Output
from perceiver_io.metrics import quality, spectra, ssim
from perceiver_io.metrics.losses import LossWeights, example_losses
from perceiver_io.metrics.quality import AUDIO_RANGE, VIDEO_RANGE
from perceiver_io.metrics.record import (
    Baseline,
    ClipFacts,
    Metric,
    Statistic,
    clips_with_sound,
    labelled_clips,
)


def metrics_for(
    modalities: tuple[str, ...],
    *,
    height: int,
    width: int,
    samples: int,
    sample_rate: int,
    loss: LossWeights,
) -> tuple[Metric, ...]:
    """The metrics of a model, in the order of tables.

    Args:
        modalities: of the model.
        height, width: of the video; SSIM needs at least 11 pixels along both sides.
        samples, sample_rate: of a window's audio; the spectra need at least 2,048 samples.
        loss: weights of the terms in 'loss'.
    """
    found = [_loss(loss)]
    if 'video' in modalities:
        found += [VIDEO_PSNR, POOLED_VIDEO_PSNR]
        if min(height, width) >= ssim.WINDOW:
            found.append(SSIM)
    if 'audio' in modalities:
        found += [AUDIO_PSNR, AUDIO_PSNR_PEAK_2, POOLED_AUDIO_PSNR, SI_SDR]
        if samples >= spectra.SHORTEST:
            found += [_log_mel(sample_rate), STFT]
    if 'label' in modalities:
        found += [TOP_1, TOP_5]
    return tuple(found)


def baselines_for(modalities: tuple[str, ...]) -> tuple[Baseline, ...]:
    """The baselines of a model, in the order of tables."""
    of = {
        'video': (MEAN_COLOUR, MEAN_FRAME),
        'audio': (SILENCE,),
        'label': (COMMONEST_CLASS, FIVE_COMMONEST_CLASSES),
    }
    return tuple(
        baseline
        for modality, baselines in of.items()
        if modality in modalities
        for baseline in baselines
    )


# Statistics: of the prediction and the target of one modality, [b, ...].


def _clipped_audio(audio: jax.Array) -> jax.Array:
    """[b, s, 1] to [b, s], clipped to [-1, 1]."""
    return jnp.clip(audio[..., 0], *AUDIO_RANGE)


def _video_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return quality.squared_error(prediction, target, VIDEO_RANGE[0])


def _audio_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return quality.squared_error(prediction, target, AUDIO_RANGE[0])


def _ssim(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return ssim.ssim(jnp.clip(prediction, *VIDEO_RANGE), target)


def _si_sdr(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return spectra.si_sdr_sums(_clipped_audio(prediction), target[..., 0])


def _log_mel_distance(prediction: jax.Array, target: jax.Array, *, sample_rate: int) -> jax.Array:
    return spectra.log_mel_distance(_clipped_audio(prediction), target[..., 0], sample_rate)


def _stft(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return spectra.stft_sums(_clipped_audio(prediction), target[..., 0])


def _class_scores(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return jax.nn.softmax(prediction)


def _audio_energy(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return quality.mean_of_each(jnp.square(target))


def _mean_colour(prediction: jax.Array, target: jax.Array) -> jax.Array:
    colour = target.mean((1, 2, 3), keepdims=True)
    return _video_error(jnp.broadcast_to(colour, target.shape), target)


def _mean_frame(prediction: jax.Array, target: jax.Array) -> jax.Array:
    frame = target.mean(1, keepdims=True)
    return _video_error(jnp.broadcast_to(frame, target.shape), target)


VIDEO_ERROR = Statistic('video_error', 'video', _video_error)
AUDIO_ERROR = Statistic('audio_error', 'audio', _audio_error)
AUDIO_ENERGY = Statistic('audio_energy', 'audio', _audio_energy)  # 0 for digital silence
CLASS_SCORES = Statistic('class_scores', 'label', _class_scores)


# Metrics.


def _itself(statistic: np.ndarray, facts: ClipFacts) -> np.ndarray:
    return statistic


def _psnr(statistic: np.ndarray, facts: ClipFacts) -> np.ndarray:
    return quality.psnr(statistic)


def _psnr_peak_2(statistic: np.ndarray, facts: ClipFacts) -> np.ndarray:
    return quality.psnr(statistic) + quality.PEAK_2_DECIBELS


def _psnr_of_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return quality.psnr(weights @ values / weights.sum(axis=-1))


def _hits(scores: np.ndarray, facts: ClipFacts, *, k: int) -> np.ndarray:
    return quality.in_top(scores, facts.label, k).astype(float)


def _loss(weights: LossWeights) -> Metric:
    def weighted(prediction: Output, target: Clip) -> jax.Array:
        return example_losses(prediction, target, weights)

    return Metric(
        name='loss',
        title='loss',
        unit='',
        definition='the weighted loss of training, of whole windows with the label hidden; the '
        'label term only of labelled clips',
        statistic=Statistic('loss', None, weighted),
        value=_itself,
        form='{:.4g}',
        higher_is_better=False,
        in_table=False,
    )


VIDEO_PSNR = Metric(
    name='video_psnr',
    title='video PSNR',
    unit='dB',
    definition='PSNR of video in [0, 1], peak 1, at most 100 dB; the squared error is averaged '
    'over the windows of a clip, the PSNR over clips',
    statistic=VIDEO_ERROR,
    value=_psnr,
)
POOLED_VIDEO_PSNR = Metric(
    name='video_psnr_pooled',
    title='pooled',
    unit='dB',
    definition='PSNR of the squared error averaged over all clips',
    statistic=VIDEO_ERROR,
    value=_itself,
    aggregate=_psnr_of_mean,
    column='video_mse',
    in_table=False,
)
SSIM = Metric(
    name='ssim',
    title='SSIM',
    unit='',
    definition='structural similarity of each colour channel of each frame, Gaussian windows of '
    '11 x 11 pixels with a standard deviation of 1.5, range 1; averaged over frames and channels, '
    'then windows, then clips',
    statistic=Statistic('ssim', 'video', _ssim),
    value=_itself,
    form='{:.3f}',
)
AUDIO_PSNR = Metric(
    name='audio_psnr',
    title='audio PSNR',
    unit='dB',
    definition='PSNR of audio in [-1, 1], peak 1, at most 100 dB; averaged as video PSNR, over '
    'clips that are not digital silence',
    statistic=AUDIO_ERROR,
    value=_psnr,
    counts=clips_with_sound,
)
AUDIO_PSNR_PEAK_2 = Metric(
    name='audio_psnr_peak_2',
    title='peak 2',
    unit='dB',
    definition="audio PSNR with the audio's whole range as the peak, 6.02 dB more",
    statistic=AUDIO_ERROR,
    value=_psnr_peak_2,
    counts=clips_with_sound,
    in_table=False,
)
POOLED_AUDIO_PSNR = Metric(
    name='audio_psnr_pooled',
    title='pooled',
    unit='dB',
    definition='PSNR (peak 1) of the squared error averaged over all clips that are not digital '
    'silence',
    statistic=AUDIO_ERROR,
    value=_itself,
    counts=clips_with_sound,
    aggregate=_psnr_of_mean,
    column='audio_mse',
    in_table=False,
)
SI_SDR = Metric(
    name='si_sdr',
    title='SI-SDR',
    unit='dB',
    definition='scale-invariant signal to distortion ratio of the audio, mean not removed, of all '
    'windows of a clip as one signal; in [-100, 100] dB; averaged over clips that are not digital '
    'silence',
    statistic=Statistic('si_sdr_sums', 'audio', _si_sdr),
    value=lambda sums, facts: spectra.si_sdr(sums),
    counts=clips_with_sound,
)
STFT = Metric(
    name='stft',
    title='STFT',
    unit='',
    definition='multi-resolution STFT distance of the audio: spectral convergence plus the mean '
    'absolute difference of natural log magnitudes, averaged over frames of 512, 1,024 and 2,048 '
    'samples with hops of a quarter; averaged over clips that are not digital silence',
    statistic=Statistic('stft_sums', 'audio', _stft),
    value=lambda sums, facts: spectra.stft_distance(sums),
    counts=clips_with_sound,
    higher_is_better=False,
)
TOP_1 = Metric(
    name='top_1',
    title='top-1',
    unit='%',
    definition='share of the labelled clips whose class has the highest score, label hidden; '
    'scores averaged over windows; ties count as errors',
    statistic=CLASS_SCORES,
    value=functools.partial(_hits, k=1),
    counts=labelled_clips,
    form='{:.1%}',
)
TOP_5 = Metric(
    name='top_5',
    title='top-5',
    unit='%',
    definition='share of the labelled clips whose class is among the five highest scores',
    statistic=CLASS_SCORES,
    value=functools.partial(_hits, k=5),
    counts=labelled_clips,
    form='{:.1%}',
)


def _log_mel(sample_rate: int) -> Metric:
    measure = functools.partial(_log_mel_distance, sample_rate=sample_rate)
    return Metric(
        name='log_mel',
        title='log-mel',
        unit='dB',
        definition='mean absolute difference of log-mel power spectra of the audio: 80 bands, '
        'frames of 2,048 samples every 512, floor at -100 dB; averaged over clips that are not '
        'digital silence',
        statistic=Statistic('log_mel', 'audio', measure),
        value=_itself,
        counts=clips_with_sound,
        higher_is_better=False,
    )


# Baselines.


def _share_of_commonest(labels: np.ndarray, *, k: int) -> float:
    """The share of the clips [n] that are of the k commonest of their classes."""
    counts = np.sort(np.bincount(labels))[::-1]
    return float(counts[:k].sum() / len(labels))


MEAN_COLOUR = Baseline(
    name='mean_colour',
    title='mean colour',
    definition='the one colour that is the mean of the window',
    explanation='it is taken from the clip itself, so a model below it has not learned even that',
    metric=VIDEO_PSNR,
    statistic=Statistic('mean_colour_error', 'video', _mean_colour),
)
MEAN_FRAME = Baseline(
    name='mean_frame',
    title='mean frame',
    definition='the mean over time of the window, in every frame',
    explanation='it is taken from the clip itself, at full resolution, and is exact where nothing '
    'moves: in short windows a good model can stay below it',
    metric=VIDEO_PSNR,
    statistic=Statistic('mean_frame_error', 'video', _mean_frame),
)
SILENCE = Baseline(
    name='silence',
    title='silence',
    definition='zeros',
    explanation='its PSNR is high where clips are quiet',
    metric=AUDIO_PSNR,
    statistic=AUDIO_ENERGY,
)
COMMONEST_CLASS = Baseline(
    name='commonest_class',
    title='commonest class',
    definition='top-1 of always the commonest class of these clips',
    explanation='it knows the labels of these clips',
    metric=TOP_1,
    of_labels=functools.partial(_share_of_commonest, k=1),
)
FIVE_COMMONEST_CLASSES = Baseline(
    name='five_commonest_classes',
    title='five commonest classes',
    definition='top-5 of always the five commonest classes of these clips',
    explanation='it knows the labels of these clips',
    metric=TOP_5,
    of_labels=functools.partial(_share_of_commonest, k=5),
)
