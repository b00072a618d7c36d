"""Which clips a run reads: the `data` part of a config, and how it is opened."""

import dataclasses

from perceiver_io.core import files
from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data import folder, rendered
from perceiver_io.data.augmentation import Augmentation
from perceiver_io.data.records import Source, choose_classes


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where clips come from and how they are read.

    Attributes:
        source: 'rendered' (drawn from a seed into `cache`), 'folder' (your own files) or 'tfds' (a
            prepared dataset).
        path: the folder of media files, or the one that prepared datasets are in.
        csv: of a folder, its list: `file,label[,split]`; relative to `path`, or absolute.
        dataset: which prepared dataset in `path`: `NAME` or `NAME/CONFIG`; '' if there is one.
        train_split, eval_split: names of splits.
        classes: the classes to read; () for all.
        fraction: of the training clips to read, in (0, 1].
        missing_audio: what a clip without sound is: 'silence', or 'skip' to leave it out.
        frame_rate: frames per second that the video is resampled to (paper: 25).
        eval_windows: windows of each clip that evaluation takes, spread evenly; 1 is the centre.
        flip: whether training mirrors a clip, left to right, half of the time.
        colour_jitter: how far training changes brightness, contrast and saturation, in [0, 1); see
            `augmentation.jitter_colour`.
        workers: processes that read; 0 reads in threads of this one.
        threads: reading threads in each process.
        cache: where rendered clips are kept; None for ~/.cache/perceiver_io.
        render_seed, render_train, render_val: what is rendered: the seed and how many clips.
        render_size, render_seconds: pixels along a side, and length.
    """

    source: str = 'rendered'
    path: str = ''
    csv: str = 'labels.csv'
    dataset: str = ''
    train_split: str = 'train'
    eval_split: str = 'val'
    classes: tuple[str, ...] = ()
    fraction: float = 1.0
    missing_audio: str = 'silence'
    frame_rate: int = 25
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

    def __post_init__(self):
        if self.source not in ('rendered', 'folder', 'tfds'):
            raise UserError(f"data.source={self.source!r} must be 'rendered', 'folder' or 'tfds'")
        if not 0 < self.fraction <= 1:
            raise UserError(f'data.fraction={self.fraction} must be above 0 and at most 1')
        if not 0 <= self.colour_jitter < 1:
            raise UserError(f'data.colour_jitter={self.colour_jitter} must be in [0, 1)')
        if not 1 <= self.frame_rate <= 1000:
            raise UserError(f'data.frame_rate={self.frame_rate} must be in [1, 1000]')
        if self.missing_audio not in ('silence', 'skip'):
            raise UserError(
                f"data.missing_audio={self.missing_audio!r} must be 'silence' or 'skip'"
            )
        for name in ('eval_windows', 'threads', 'render_train', 'render_val'):
            if getattr(self, name) < 1:
                raise UserError(f'data.{name}={getattr(self, name)} must be at least 1')
        if self.workers < 0:
            raise UserError(f'data.workers={self.workers} must not be negative')


def augmentation(config: DataConfig) -> Augmentation | None:
    """What changes training clips at random; None for nothing."""
    chosen = Augmentation(config.flip, config.colour_jitter)
    return None if chosen == Augmentation() else chosen


def open_source(
    config: DataConfig,
    split: str,
    spec: ClipSpec,
    *,
    needs_label: bool,
    classes: tuple[str, ...] | None = None,
    training: bool = False,
) -> Source:
    """The clips of `split`, rendered first if they are to be.

    Args:
        config: where from.
        split: one of the names in the CSV or the dataset.
        spec: the windows that clips must be long enough for.
        needs_label: whether a clip without a label is skipped.
        classes: names in the order of their indices, where these are already settled.
        training: whether `config.fraction` counts.

    Raises:
        UserError: there is no such folder, or nothing in it to use; says what to change.
    """
    _check_path(config)
    path, csv = config.path, config.csv
    if config.source == 'rendered':
        path, csv = (
            rendered.render_folder(
                config.cache or files.cache_folder(),
                seed=config.render_seed,
                train_clips=config.render_train,
                val_clips=config.render_val,
                size=config.render_size,
                seconds=config.render_seconds,
            ),
            'labels.csv',
        )
    which = dict(
        split=split,
        spec=spec,
        classes=classes,
        only=config.classes,
        fraction=config.fraction if training else 1.0,
        missing_audio=config.missing_audio,
        needs_label=needs_label,
    )
    if config.source == 'tfds':
        from perceiver_io.data import prepared

        return prepared.open_prepared(path, dataset=config.dataset, **which)
    return folder.open_folder(path, csv=csv, **which)


def class_names(config: DataConfig) -> tuple[str, ...]:
    """The classes of all splits, by index, without opening a clip; errors as `open_source`."""
    _check_path(config)
    if config.source == 'rendered':
        found = sorted(rendered.CLASSES)
    elif config.source == 'tfds':
        from perceiver_io.data import prepared

        found = prepared.class_names(config.path, config.dataset)
    else:
        found = folder.class_names(config.path, config.csv)
    return choose_classes(found, None, config.classes)


def _check_path(config: DataConfig) -> None:
    if config.source != 'rendered' and not config.path:
        holds = 'your files' if config.source == 'folder' else 'your prepared datasets'
        raise UserError(f'data.source={config.source!r} needs data.path, the folder of {holds}')
