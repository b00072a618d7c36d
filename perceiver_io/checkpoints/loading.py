"""Trained models from wherever they are: one function that all programs use.

model, params = load('runs/demo')
loaded = load_checkpoint('runs/demo')      # and what else is known of it
"""

import os
import pathlib
import re

import haiku as hk

from perceiver_io.checkpoints import download, runs, weight_files
from perceiver_io.checkpoints.weight_files import Loaded
from perceiver_io.core.errors import UserError
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig

OFFICIAL = 'deepmind/video_autoencoding'
CHECKPOINT_HELP = (
    'A folder of train.py; a .pystate file; a folder or file of the transformers library; '
    f'{OFFICIAL}, the released weights; or a name on the Hugging Face hub.'
)
_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')  # the transformers library's, by preference


def load(checkpoint: str | os.PathLike) -> tuple[Autoencoder, hk.Params]:
    """A trained model and its parameters; see `load_checkpoint`."""
    loaded = load_checkpoint(checkpoint)
    return Autoencoder(loaded.config), loaded.params


def load_checkpoint(checkpoint: str | os.PathLike) -> Loaded:
    """Reads a checkpoint of any form; nothing in it is run.

    Args:
        checkpoint: the folder of a run of train.py; a `.pystate` file; a folder of the transformers
            library, or its `model.safetensors` or `pytorch_model.bin`; the name
            'deepmind/video_autoencoding', which fetches the released weights; or another name on
            the Hugging Face hub, such as 'deepmind/multimodal-perceiver'. What is on disk comes
            before what is a name.

    Raises:
        UserError: in one line, why it is none, or none that fits a model.
    """
    path = pathlib.Path(checkpoint)
    if not path.exists():
        path = _fetch(os.fspath(checkpoint))
    if path.is_file():
        return weight_files.read_file(path)
    weights = _weights(path)
    if weights is not None:
        return weight_files.read_file(weights)
    _check_is_run(path)
    experiment = runs.read_experiment(path)
    params, step = runs.read_params(path)
    return Loaded(experiment, params, runs.read_classes(path), step)


def read_config(checkpoint: str | os.PathLike) -> AutoencoderConfig:
    """The config of a checkpoint's model, without its parameters where that is quicker."""
    path = pathlib.Path(checkpoint)
    if path.is_dir() and _weights(path) is None:
        _check_is_run(path)
        return runs.read_experiment(path).model
    return load_checkpoint(checkpoint).config


def _weights(folder: pathlib.Path) -> pathlib.Path | None:
    """The file of weights in a folder of the transformers library; None where it is none."""
    found = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    if found and (folder / runs.CHECKPOINTS).exists():
        raise UserError(f'{folder} holds a run and {found[0].name}: name the file, or remove it')
    return found[0] if found else None


def _check_is_run(folder: pathlib.Path) -> None:
    lacks = [name for name in (runs.CONFIG, runs.CLASSES) if not (folder / name).is_file()]
    if lacks:
        raise UserError(
            f'{folder} is not the folder of a run, it has no {lacks[0]}, and has none '
            f'of {", ".join(_WEIGHTS)}'
        )


def _fetch(name: str) -> pathlib.Path:
    """A file or folder of the name, from the cache or from the net."""
    if name == OFFICIAL:
        return download.official_checkpoint()
    is_file = pathlib.Path(name).suffix in weight_files.READERS
    if is_file or not re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', name):
        raise UserError(f'there is no file or folder {name}')
    return download.from_hub(name, _WEIGHTS, weight_files.CONFIG)
