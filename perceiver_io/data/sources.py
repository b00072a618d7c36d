"""Opens the clips that a config describes."""

import pathlib

from perceiver_io.core import files
from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UsageError
from perceiver_io.data import folder, rendered
from perceiver_io.data.augmentation import Augmentation
from perceiver_io.data.config import DataConfig
from perceiver_io.data.records import Selection, Source, choose_classes


def augmentation(config: DataConfig) -> Augmentation | None:
    """The random changes of training clips; None for none."""
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
    """Opens the clips of a split; rendered clips are drawn first where they are missing.

    Args:
        config: where the clips come from.
        split: its name in the CSV or the dataset.
        spec: the windows that will be read; shorter clips are skipped.
        needs_label: whether a clip without a label is skipped.
        classes: the class of each index, if it is known already.
        training: whether `config.fraction` applies.

    Raises:
        UserError: the folder is missing, or none of its clips can be used; says what to change.
    """
    _check_path(config)
    selection = Selection(
        split,
        spec,
        classes=classes,
        only=config.classes,
        fraction=config.fraction if training else 1.0,
        missing_audio=config.missing_audio,
        needs_label=needs_label,
    )
    if config.source == 'tfds':
        from perceiver_io.data import prepared  # loads TFDS

        return prepared.open_prepared(config.path, selection, config.dataset)
    if config.source == 'rendered':
        return folder.open_folder(_render(config), selection)
    return folder.open_folder(config.path, selection, config.csv)


def _render(config: DataConfig) -> pathlib.Path:
    return rendered.render_folder(
        config.cache or files.cache_folder(),
        seed=config.render_seed,
        train_clips=config.render_train,
        val_clips=config.render_val,
        size=config.render_size,
        seconds=config.render_seconds,
        phase=config.render_phase,
    )


def describe(config: DataConfig) -> str:
    """One line about where the clips come from; errors as `open_source`."""
    _check_path(config)
    if config.source == 'tfds':
        from perceiver_io.data import prepared  # loads TFDS

        return prepared.describe(config.path, config.dataset)
    if config.source == 'rendered':
        return f'rendered clips of {config.render_size} x {config.render_size} pixels'
    return f'files of {config.path}'


def class_names(config: DataConfig) -> tuple[str, ...]:
    """The classes of all splits, by index, without opening a clip; errors as `open_source`."""
    _check_path(config)
    if config.source == 'rendered':
        found = sorted(rendered.CLASSES)
    elif config.source == 'tfds':
        from perceiver_io.data import prepared  # loads TFDS

        found = prepared.class_names(config.path, config.dataset)
    else:
        found = folder.class_names(config.path, config.csv)
    return choose_classes(found, None, config.classes)


def _check_path(config: DataConfig) -> None:
    if config.source != 'rendered' and not config.path:
        content = 'your files' if config.source == 'folder' else 'your prepared datasets'
        raise UsageError(f'data.source={config.source!r} needs data.path, the folder of {content}')
