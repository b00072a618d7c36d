"""The metrics of an evaluation: add one here, and every table and file shows it."""

import functools

import numpy as np

from perceiver_io.metrics import quality, spectra, ssim, statistics
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.metrics.record import ClipFacts, Metric, clips_with_sound, labelled_clips


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
        loss: weights of the terms in the metric 'loss'.
    """
    found = []
    if 'audio' in modalities:
        found += [AUDIO_PSNR, AUDIO_PSNR_PEAK_2, POOLED_AUDIO_PSNR, SI_SDR]
        if samples >= spectra.SHORTEST:
            found += [_log_mel(sample_rate), STFT]
    if 'video' in modalities:
        found += [VIDEO_PSNR, POOLED_VIDEO_PSNR]
        if min(height, width) >= ssim.WINDOW:
            found.append(SSIM)
    if 'label' in modalities:
        found += [TOP_1, TOP_5]
    found.append(_loss(loss))
    return tuple(found)


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
    return Metric(
        name='loss',
        title='loss',
        unit='',
        definition='the weighted loss of training, of whole windows with the label hidden; the '
        'label term only of labelled clips',
        statistic=statistics.loss(weights),
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
    statistic=statistics.VIDEO_ERROR,
    value=_psnr,
)
POOLED_VIDEO_PSNR = Metric(
    name='video_psnr_pooled',
    title='pooled video PSNR',
    unit='dB',
    definition='PSNR of the squared error averaged over all clips',
    statistic=statistics.VIDEO_ERROR,
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
    statistic=statistics.SSIM,
    value=_itself,
    form='{:.3f}',
    in_table=False,
)
AUDIO_PSNR = Metric(
    name='audio_psnr',
    title='audio PSNR',
    unit='dB',
    definition='PSNR of audio in [-1, 1], peak 1, at most 100 dB; averaged as video PSNR, over '
    'clips that are not digital silence',
    statistic=statistics.AUDIO_ERROR,
    value=_psnr,
    counts=clips_with_sound,
)
AUDIO_PSNR_PEAK_2 = Metric(
    name='audio_psnr_peak_2',
    title='audio PSNR, peak 2',
    unit='dB',
    definition="audio PSNR with the audio's whole range as the peak, 6.02 dB more",
    statistic=statistics.AUDIO_ERROR,
    value=_psnr_peak_2,
    counts=clips_with_sound,
    in_table=False,
)
POOLED_AUDIO_PSNR = Metric(
    name='audio_psnr_pooled',
    title='pooled audio PSNR',
    unit='dB',
    definition='PSNR (peak 1) of the squared error averaged over all clips that are not digital '
    'silence',
    statistic=statistics.AUDIO_ERROR,
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
    definition='scale-invariant signal to distortion ratio of the audio, mean not removed, in '
    '[-100, 100] dB; averaged over the windows of a clip, then over clips, that are not digital '
    'silence',
    statistic=statistics.SI_SDR,
    value=lambda sums, facts: spectra.mean_si_sdr(sums),
    counts=clips_with_sound,
    in_table=False,
)
STFT = Metric(
    name='stft',
    title='STFT',
    unit='',
    definition='multi-resolution STFT distance of the audio: spectral convergence plus the mean '
    'absolute difference of natural log magnitudes, averaged over frames of 512, 1,024 and 2,048 '
    'samples with hops of a quarter; averaged over clips that are not digital silence',
    statistic=statistics.STFT,
    value=lambda sums, facts: spectra.stft_distance(sums),
    counts=clips_with_sound,
    higher_is_better=False,
    in_table=False,
)
TOP_1 = Metric(
    name='top_1',
    title='top-1',
    unit='%',
    definition='share of the labelled clips whose class has the highest score, label hidden; '
    'scores averaged over windows; ties count as errors',
    statistic=statistics.CLASS_SCORES,
    value=functools.partial(_hits, k=1),
    counts=labelled_clips,
    form='{:.1%}',
)
TOP_5 = Metric(
    name='top_5',
    title='top-5',
    unit='%',
    definition='share of the labelled clips whose class is among the five highest scores',
    statistic=statistics.CLASS_SCORES,
    value=functools.partial(_hits, k=5),
    counts=labelled_clips,
    form='{:.1%}',
)


def _log_mel(sample_rate: int) -> Metric:
    return Metric(
        name='log_mel',
        title='log-mel',
        unit='dB',
        definition='mean absolute difference of log-mel power spectra of the audio: 80 bands, '
        'frames of 2,048 samples every 512, floor at -100 dB; averaged over clips that are not '
        'digital silence',
        statistic=statistics.log_mel(sample_rate),
        value=_itself,
        counts=clips_with_sound,
        higher_is_better=False,
        in_table=False,
    )


# Of a model of all modalities: the columns of every table.
ALL_METRICS = metrics_for(
    ('video', 'audio', 'label'),
    height=224,
    width=224,
    samples=30_720,
    sample_rate=48_000,
    loss=LossWeights(),
)
