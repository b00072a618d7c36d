"""Collects what a report shows of a model: clips, windows for the codecs, rounded latents."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import haiku as hk
import jax
import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.picks import spread
from perceiver_io.core.progress import progress_bar
from perceiver_io.data.records import Record, Source
from perceiver_io.evaluation.evaluate import Evaluator
from perceiver_io.evaluation.results import ShownWindow
from perceiver_io.media import reader
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.report import attention, rounding
from perceiver_io.report.content import Model, ShownClip, choose

GALLERY_SECONDS = 4  # of each clip, about
CODEC_CLIPS = 4  # of which a window is compressed by codecs


def gather(
    row: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    *,
    model: Autoencoder,
    params: hk.Params,
    evaluator: Evaluator,
    clips: Source,
    spec: ClipSpec,
    config: Mapping[str, Any],
    training: Sequence[Mapping[str, float]] = (),
) -> Model:
    """All processes must call this.

    On several, latents are not rounded, no codec is measured, and attention is not shown.

    Args:
        row: of `table5.results`.
        lines: of `clips.csv`.
        model, params: that were evaluated.
        evaluator: that evaluated them on `clips`.
        clips: that were evaluated.
        spec: of the windows.
        config: of the run.
        training: the entries of its `metrics.jsonl`.
    """
    records = {record.name: record for record in clips.records}
    shown = []
    chosen = choose(lines)
    progress = progress_bar(
        chosen.items(),
        'clips of the report',
        total=len(chosen),
        unit='clip',
        disable=not chosen or jax.process_index() != 0,
    )
    for rank, line in progress:
        windows = evaluator.reconstruct(params, records[line['name']], GALLERY_SECONDS)
        with contextlib.suppress(reader.UnreadableMedia):  # damaged outside the evaluated window
            shown.append(join(rank, line, list(windows)))
    half = None
    if spec.video and jax.process_count() == 1:
        few = [records[line['name']] for line in spread(lines, CODEC_CLIPS)]
        half = rounding.measure(model, params, first_windows(few, spec))
    maps = None
    if jax.process_count() == 1 and chosen:
        name = chosen.get('median', chosen['best'])['name']
        for window in first_windows([records[name]], spec):
            maps = attention.look(name, model, params, window)
    return Model(row, lines, spec, clips.classes, shown, half, training, config, maps)


def join(rank: str, line: Mapping[str, Any], windows: Sequence[ShownWindow]) -> ShownClip:
    """Windows that follow each other, as a clip; class scores are the mean of the windows'."""

    def together(clips: Sequence[Clip]) -> Clip:
        has_video, has_audio = clips[0].video is not None, clips[0].audio is not None
        return Clip(
            np.concatenate([clip.video for clip in clips]) if has_video else None,
            np.concatenate([clip.audio for clip in clips]) if has_audio else None,
        )

    reconstruction = together([window.reconstruction for window in windows])
    if windows[0].reconstruction.label is not None:
        scores = np.mean([window.reconstruction.label for window in windows], axis=0)
        reconstruction = reconstruction._replace(label=scores)
    return ShownClip(rank, line, together([window.original for window in windows]), reconstruction)


def first_windows(records: Sequence[Record], spec: ClipSpec) -> list[Clip]:
    """The first window of each clip that has a whole one."""
    windows = []
    for record in records:
        try:
            clip, frames = next(iter(reader.read_windows(record.load(), spec)))
        except (reader.UnreadableMedia, StopIteration):
            continue
        if frames == spec.frames:
            windows.append(clip)
    return windows
