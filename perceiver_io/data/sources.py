"""Which clips a run reads: the `data` part of a config, and how it is opened."""

import dataclasses

from perceiver_io import files
from perceiver_io.clip import ClipSpec
from perceiver_io.data import folder, rendered


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where clips come from and how they are read.

    Attributes:
        source: 'rendered' (drawn from a seed into `cache`) or 'folder' (your own files).
        path: the folder of media files.
        csv: its list, `file,label[,split]`; relative to `path`, or absolute.
        train_split, eval_split: names in the column `split`.
        missing_audio: what a clip without sound is: 'silence', or 'skip' to leave it out.
        frame_rate: frames per second that the video is resampled to (paper: 25).
        eval_windows: windows of each clip that evaluation takes, spread evenly; 1 is the centre.
        workers: processes that read; 0 reads in threads of this one.
        threads: reading threads in each process.
        cache: where rendered clips are kept; None for ~/.cache/perceiver_io.
        render_seed, render_train, render_val: what is rendered: the seed and how many clips.
        render_size, render_seconds: pixels along a side, and length.
    """

    source: str = 'rendered'
    path: str = ''
    csv: str = 'labels.csv'
    train_split: str = 'train'
    eval_split: str = 'val'
    missing_audio: str = 'silence'
    frame_rate: int = 25
    eval_windows: int = 1
    workers: int = 0
    threads: int = 4
    cache: str | None = None
    render_seed: int = 0
    render_train: int = 300
    render_val: int = 60
    render_size: int = 64
    render_seconds: float = 2.0

    def __post_init__(self):
        if self.source not in ('rendered', 'folder'):
            raise ValueError(f"data.source={self.source!r} must be 'rendered' or 'folder'")
        if self.missing_audio not in ('silence', 'skip'):
            raise ValueError(
                f"data.missing_audio={self.missing_audio!r} must be 'silence' or 'skip'")
        for name in ('eval_windows', 'threads', 'render_train', 'render_val'):
            if getattr(self, name) < 1:
                raise ValueError(f'data.{name}={getattr(self, name)} must be at least 1')
        if self.workers < 0:
            raise ValueError(f'data.workers={self.workers} must not be negative')


def open_source(config: DataConfig, split: str, spec: ClipSpec, *, needs_label: bool,
                classes: tuple[str, ...] | None = None) -> folder.Source:
    """The clips of `split`, rendered first if they are to be.

    Args:
        config: where from.
        split: one of the names in the CSV.
        spec: the windows that clips must be long enough for.
        needs_label: whether a clip without a label is skipped.
        classes: names in the order of their indices, where these are already settled.

    Raises:
        ValueError: there is no such folder, or nothing in it to use; says what to change.
    """
    if config.source == 'folder' and not config.path:
        raise ValueError("data.source='folder' needs data.path, the folder of your files")
    path, csv = config.path, config.csv
    if config.source == 'rendered':
        path, csv = rendered.render_folder(
            config.cache or files.cache_folder(), seed=config.render_seed,
            train_clips=config.render_train, val_clips=config.render_val, size=config.render_size,
            seconds=config.render_seconds), 'labels.csv'
    return folder.open_folder(
        path, split=split, csv=csv, spec=spec, classes=classes,
        missing_audio=config.missing_audio, needs_label=needs_label)


def class_names(config: DataConfig) -> tuple[str, ...]:
    """The classes of all splits, by index, without opening a clip; errors as `open_source`."""
    if config.source == 'rendered':
        return tuple(sorted(rendered.CLASSES))
    return folder.class_names(config.path, config.csv)
