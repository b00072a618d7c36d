"""Examples of a batch: windows of a clip, read and augmented, with where they come from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data import sampling
from perceiver_io.data.augmentation import Augmentation
from perceiver_io.data.records import Record, Source
from perceiver_io.media import reader

_ATTEMPTS = 16  # clips that are tried for an example before an error


class Example(NamedTuple):
    """One row of a `loader.Batch`, whose attributes have the same names."""

    clip: Clip
    mask: bool
    record: int
    start: float
    failed: int = -1
    reason: str = ''


def random_examples(
    index: int,
    rng: np.random.Generator,
    *,
    source: Source,
    spec: ClipSpec,
    windows: int,
    augmentation: Augmentation | None,
) -> list[Example]:
    """Windows of the record `index`, or of the next one after it that can be read.

    Args:
        index: of the record in `source`.
        rng: decides the starts and the augmentation.
        source: the clips.
        spec: the windows.
        windows: how many of them.
        augmentation: random changes of the video, drawn for each window; None for none.

    Raises:
        UserError: too many clips in a row cannot be read.
    """
    errors: list[str] = []
    for attempt in range(min(_ATTEMPTS, len(source.records))):
        candidate = (index + attempt) % len(source.records)
        record = source.records[candidate]
        starts = sampling.random_starts(rng, record.seconds, spec, windows)
        try:
            clips = read(record, starts, spec)
        except (reader.UnreadableMedia, OSError) as error:
            errors.append(str(error))
            continue
        if augmentation is not None and spec.video:
            clips = [clip._replace(video=augmentation(clip.video, rng)) for clip in clips]
        failed, reason = (index, errors[0]) if errors else (-1, '')
        return [
            Example(clip, True, candidate, start, failed, reason)
            for clip, start in zip(clips, starts)
        ]
    raise UserError(
        f'cannot read {source.records[index].name} ({errors[0]}), nor the '
        f'{len(errors) - 1} clips after it: check the folder'
    )


def fixed_example(index: int, *, source: Source, spec: ClipSpec, windows: int) -> list[Example]:
    """One window: that of this index, where each record has as many as `windows`.

    It is zeros, with `mask` False, behind the last record and where the clip cannot be read.
    """
    index, window = divmod(index, windows)
    if index >= len(source.records):
        return [Example(_zeros(spec), False, -1, 0.0)]
    record = source.records[index]
    start = sampling.uniform_starts(record.seconds, spec, windows)[window]
    try:
        [clip] = read(record, [start], spec)
        return [Example(clip, True, index, start)]
    except (reader.UnreadableMedia, OSError) as error:
        return [Example(_zeros(spec), False, index, start, index, str(error))]


def read(record: Record, starts: Sequence[float], spec: ClipSpec) -> list[Clip]:
    """The windows of a record that begin at `starts`; UnreadableMedia and OSError as the reader."""
    clips = reader.read_windows_at(record.load(), starts, spec)
    return [clip._replace(label=record.label) for clip in clips]


def _zeros(spec: ClipSpec) -> Clip:
    return Clip(
        np.zeros((spec.frames, spec.height, spec.width, 3), np.uint8) if spec.video else None,
        np.zeros((spec.samples, 1), np.int16) if spec.audio else None,
        -1,
    )
