"""Reads checkpoints of every form: runs, files of weights, and names of published weights.

    model, params = load('runs/demo')
    checkpoint = load_checkpoint('runs/demo')  # also class names, frame rate and step

Arrays do not determine a model: its number of heads, for instance, is in no shape. For a file of
weights, the missing fields come from a JSON file beside it (`x.json` for `x.pystate`, else
`config.json`, of the transformers library or of `convert`); without it, they are those of the
released model.
"""

import dataclasses
import os
import pathlib
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import haiku as hk
import jax
import numpy as np
from absl import logging

from perceiver_io.checkpoints import sizes, transformers
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.formats.checks import about, is_name, read_json
from perceiver_io.core import kinetics700
from perceiver_io.core.config_values import build
from perceiver_io.core.errors import InvalidFileError, UserError
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import MODALITIES, AutoencoderConfig

OFFICIAL = 'deepmind/video_autoencoding'
CHECKPOINT_HELP = (
    'A folder of train.py; a .pystate file; a folder or file of the transformers library; '
    f'{OFFICIAL}, the released weights; or a name on the Hugging Face hub.'
)
CONFIG = 'config.json'  # of a run, and of the transformers library
CLASSES = 'classes.json'  # of a run
FACTS = 'perceiver_io'  # the key in a JSON file beside weights for what arrays do not tell
FRAME_RATE = 25  # where none is known (paper)
SUFFIXES = ('.pystate', '.safetensors', '.bin')
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')  # of the transformers library, by preference

Arrays = Mapping[str, Mapping[str, np.ndarray]]


def load(checkpoint: str | os.PathLike) -> tuple[Autoencoder, hk.Params]:
    """A trained model and its parameters; see `load_checkpoint`."""
    loaded = load_checkpoint(checkpoint)
    return Autoencoder(loaded.config), loaded.params


def load_checkpoint(checkpoint: str | os.PathLike) -> Checkpoint:
    """Reads a checkpoint of any form. No code in it is executed.

    Args:
        checkpoint: the folder of a run of train.py; a `.pystate` file; a folder of the transformers
            library, or its `model.safetensors` or `pytorch_model.bin`; the name
            'deepmind/video_autoencoding' for the released weights, which are downloaded once; or
            another name on the Hugging Face hub, such as 'deepmind/multimodal-perceiver'. A file or
            folder of that name takes precedence.

    Returns:
        The checkpoint; its parameters are on one device.

    Raises:
        UserError: it cannot be read, or its arrays fit no model; one line says why.
    """
    path = pathlib.Path(checkpoint)
    if not path.exists():
        path = _fetch(os.fspath(checkpoint))
    if path.is_dir():
        weights = weights_in(path)
        if weights is None:
            return _read_run(path)
        path = weights
    return read_file(path)


def is_run(checkpoint: str | os.PathLike) -> bool:
    """Whether `load_checkpoint` takes this for the folder of a run."""
    path = pathlib.Path(checkpoint)
    return path.is_dir() and weights_in(path) is None


def weights_in(folder: pathlib.Path) -> pathlib.Path | None:
    """The file of weights in a folder of the transformers library; None if there is none."""
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if found and (folder / 'checkpoints').exists():
        raise UserError(f'{folder} holds a run and {found[0].name}: name the file, or remove it')
    return found[0] if found else None


def _fetch(name: str) -> pathlib.Path:
    """The file or folder of a name that is not on disk, from the cache or the network."""
    from perceiver_io.checkpoints import download

    if name == OFFICIAL:
        return download.official_checkpoint()
    is_file = pathlib.Path(name).suffix in SUFFIXES
    if is_file or not re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', name):
        raise UserError(f'there is no file or folder {name}')
    return download.from_hub(name, WEIGHTS, CONFIG)


# Runs.


def _read_run(folder: pathlib.Path) -> Checkpoint:
    missing = [name for name in (CONFIG, CLASSES) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f'{folder} is not the folder of a run, as it has no {missing[0]}, and it has none of '
            f'{", ".join(WEIGHTS)}'
        )
    values = read_config(folder)
    model, data = values.get('model'), values.get('data', {})
    if not isinstance(model, Mapping) or not isinstance(data, Mapping):
        raise UserError(f'{folder / CONFIG} is damaged: model and data must be groups of keys')
    config = build(AutoencoderConfig, model, 'model.')
    frame_rate = _frame_rate(data.get('frame_rate', FRAME_RATE), 'data.frame_rate')
    classes = read_classes(folder)

    from perceiver_io.checkpoints import store  # loads Orbax, which files of weights do not need

    params, step = store.read_params(folder, config)
    return Checkpoint(config, params, classes, frame_rate, step)


def read_config(folder: str | os.PathLike) -> dict[str, Any]:
    """What the `config.json` of a run holds; UserError if there is none."""
    path = pathlib.Path(folder) / CONFIG
    try:
        values = read_json(path)
    except OSError as error:
        raise UserError(
            f'{folder} is not the folder of a run: it has no readable {CONFIG} ({error.strerror})'
        ) from error
    except InvalidFileError as error:
        raise UserError(f'{path} is damaged: {error}') from error
    if not isinstance(values, dict):
        raise UserError(f'{path} is damaged: it must hold a group of keys')
    return values


def read_classes(folder: str | os.PathLike) -> tuple[str, ...]:
    """The names of a run's classes by index; UserError if there are none."""
    path = pathlib.Path(folder) / CLASSES
    try:
        names = read_json(path)
    except (OSError, InvalidFileError) as error:
        raise UserError(f'{path}, the names of the classes, is missing or damaged') from error
    if not isinstance(names, list) or not all(map(is_name, names)):
        raise UserError(f'{path} is damaged: it holds no list of names')
    return tuple(names)


def _frame_rate(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= 1000:
        raise InvalidFileError(f'{name}={reprlib.repr(value)} must be a whole number in [1, 1000]')
    return value


# Files of weights.


def read_file(path: pathlib.Path) -> Checkpoint:
    """Reads a file of weights, of the format that its suffix says."""
    if path.suffix not in SUFFIXES:
        raise UserError(f'{path}: its name must end in one of {", ".join(SUFFIXES)}')
    arrays = _read_arrays(path)
    released_form = path.suffix == '.pystate'
    beside = path.with_suffix('.json') if released_form else path.with_name(CONFIG)
    with about(beside):
        values = _read_beside(beside)
        facts = _facts(values)
        frame_rate = _frame_rate(facts.get('frame_rate', FRAME_RATE), f'{FACTS}.frame_rate')
        if 'model' in facts:
            known = facts['model']
        elif released_form:
            known = {}
        else:
            known = transformers.from_config(values) if values else transformers.WITHOUT_CONFIG
    with about(path):
        params = arrays if released_form else transformers.from_arrays(arrays)
        config = _config(params, known, beside.name)
    is_guess = 'model' not in facts and (released_form or not values)
    if is_guess and config != dataclasses.replace(AutoencoderConfig(), **known):
        logging.warning(
            '%s: what arrays do not tell, such as the number of heads, is assumed to be as in the '
            'released model; %s beside it could tell',
            path,
            beside.name,
        )
    names = facts.get('classes') or transformers.class_names(values)
    device = jax.local_devices()[0]
    return Checkpoint(
        config,
        jax.device_put(params, device),
        _classes(config, names),
        frame_rate,
        facts.get('step'),
    )


def _read_arrays(path: pathlib.Path) -> Mapping[str, Any]:
    # Imported here, so that `import perceiver_io` does not load what reads files.
    if path.suffix == '.pystate':
        from perceiver_io.checkpoints.formats import pystate

        return pystate.read_pystate(path)
    if path.suffix == '.safetensors':
        from perceiver_io.checkpoints.formats import safetensors_file

        return safetensors_file.read_safetensors(path)
    from perceiver_io.checkpoints.formats import torch_file

    return torch_file.read_torch(path)


def _config(params: Arrays, known: Mapping[str, Any], source: str) -> AutoencoderConfig:
    """The config of the model that the arrays belong to.

    Args:
        params: {module: {name: array}}.
        known: fields of the config from a file beside the arrays.
        source: the name of that file.

    Raises:
        InvalidFileError: the file and the arrays contradict each other, or fit no model.
    """
    found = sizes.read_sizes(params)
    for name, value in found.items():
        said = known.get(name, value)
        if name == 'modalities' and isinstance(said, list | tuple):
            said = tuple(modality for modality in MODALITIES if modality in said)
        if said != value:
            raise InvalidFileError(
                f'{source} says {name}={reprlib.repr(said)}, and the arrays {value}'
            )
    try:
        config = build(AutoencoderConfig, {**known, **found}, 'model.')
    except ValueError as error:
        raise InvalidFileError(f'no model has such a config: {error}') from error
    if 'video' in config.modalities:
        sizes.check_video_patch(params, config)
    sizes.check_shapes(params, config)
    return config


def _read_beside(path: pathlib.Path) -> dict[str, Any]:
    """What is in a JSON file beside weights; {} if there is none."""
    if not path.exists():
        return {}
    values = read_json(path)
    if not isinstance(values, dict):
        raise InvalidFileError('it must hold a group of keys')
    return values


def _facts(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `writing` put under the key FACTS, checked except for the model; {} for nothing."""
    facts = values.get(FACTS, {})
    if not isinstance(facts, dict) or not isinstance(facts.get('model', {}), dict):
        raise InvalidFileError(f'{FACTS} and {FACTS}.model must be groups of keys')
    names = facts.get('classes', [])
    if not isinstance(names, list) or not all(map(is_name, names)):
        raise InvalidFileError(f'{FACTS}.classes must be a list of names')
    step = facts.get('step')
    if step is not None and (type(step) is not int or step < 0):
        raise InvalidFileError(f'{FACTS}.step must be a number of steps')
    return facts


def _classes(config: AutoencoderConfig, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names given, else those of Kinetics-700 if there are as many, else numbers."""
    if 'label' not in config.modalities:
        return ()
    if names is not None and len(names) <= config.classes:
        return tuple(names)
    if config.classes == len(kinetics700.CLASSES):
        return kinetics700.CLASSES
    return tuple(f'class {index}' for index in range(config.classes))
