"""The `data` part of a config: which clips a run reads, and how."""

import dataclasses
from typing import Literal, TypeAlias, get_args

from perceiver_io.core.errors import UserError
from perceiver_io.data.records import MissingAudio, check_missing_audio

SourceKind: TypeAlias = Literal['rendered', 'folder', 'tfds']
RenderPhase: TypeAlias = Literal['random', 'fixed']


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where clips come from and how they are read.

    Attributes:
        source: 'rendered' (drawn from a seed into `cache`), 'folder' (your own files) or 'tfds' (a
            prepared dataset).
        path: the folder of media files, or the folder that contains prepared datasets.
        csv: the list of the files in a folder, `file,label[,split]`; relative to `path`, or
            absolute.
        dataset: which prepared dataset in `path`: `NAME` or `NAME/CONFIG`; '' if there is only one.
        train_split: the name of the split for training.
        eval_split: the name of the split for evaluation.
        classes: the classes to read; () for all.
        fraction: of the training clips to read, in (0, 1].
        missing_audio: what happens to a clip without audio: 'silence', or 'skip' to leave it out.
        frame_rate: frames per second that the video is resampled to (paper: 25).
        windows_per_read: random windows that training takes of a clip each time it reads it, for as
            many consecutive batches; see `loader.train_batches`.
        eval_windows: evenly spread windows of each clip for evaluation; 1 is the centre.
        flip: whether training mirrors half of the clips, left to right.
        colour_jitter: how far training changes brightness, contrast and saturation, in [0, 1); see
            `augmentation.jitter_colour`.
        workers: processes that read; 0 reads in threads of this process.
        threads: reading threads in each process.
        cache: folder of rendered clips; None for ~/.cache/perceiver_io.
        render_seed: seed of the rendered clips.
        render_train: how many training clips are rendered.
        render_val: how many clips for evaluation are rendered.
        render_size: their height and width in pixels.
        render_seconds: their length.
        render_phase: of their tones: 'random', or 'fixed', with which the video tells every sample
            of the audio.
    """

    source: SourceKind = 'rendered'
    path: str = ''
    csv: str = 'labels.csv'
    dataset: str = ''
    train_split: str = 'train'
    eval_split: str = 'val'
    classes: tuple[str, ...] = ()
    fraction: float = 1.0
    missing_audio: MissingAudio = 'silence'
    frame_rate: int = 25
    windows_per_read: int = 1
    eval_windows: int = 1
    flip: bool = False
    colour_jitter: float = 0.0
    workers: int = 0
    threads: int = 4
    cache: str | None = None
    render_seed: int = 0
    render_train: int = 300
    render_val: int = 60
    render_size: int = 64
    render_seconds: float = 2.0
    render_phase: RenderPhase = 'random'

    def __post_init__(self) -> None:
        if self.source not in get_args(SourceKind):
            raise UserError(f"data.source={self.source!r} must be 'rendered', 'folder' or 'tfds'")
        if not 0 < self.fraction <= 1:
            raise UserError(f'data.fraction={self.fraction} must be above 0 and at most 1')
        if not 0 <= self.colour_jitter < 1:
            raise UserError(f'data.colour_jitter={self.colour_jitter} must be in [0, 1)')
        if not 1 <= self.frame_rate <= 1000:
            raise UserError(f'data.frame_rate={self.frame_rate} must be in [1, 1000]')
        if self.render_phase not in get_args(RenderPhase):
            raise UserError(f"data.render_phase={self.render_phase!r} must be 'random' or 'fixed'")
        check_missing_audio(self.missing_audio, 'data.missing_audio')
        for name in ('windows_per_read', 'eval_windows', 'threads', 'render_train', 'render_val'):
            if getattr(self, name) < 1:
                raise UserError(f'data.{name}={getattr(self, name)} must be at least 1')
        if self.workers < 0:
            raise UserError(f'data.workers={self.workers} must not be negative')
