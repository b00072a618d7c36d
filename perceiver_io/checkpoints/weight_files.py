"""A trained model and what is known of it, in a file of weights and out of one.

Weights alone do not tell everything of a model, such as its heads. What they do not tell comes from
this project's own facts (in `x.json` beside `x.pystate`, or in the transformers library's
`config.json`, under the key `perceiver_io`), else from that `config.json`, else it is as released.
"""

import dataclasses
import json
import os
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import numpy as np
from absl import logging

from perceiver_io.checkpoints import model_sizes, transformers_config, transformers_names
from perceiver_io.checkpoints.formats import pystate, safetensors_file, torch_file
from perceiver_io.checkpoints.formats.refusal import InvalidFileError, about, is_name, read_json
from perceiver_io.core import files, kinetics700
from perceiver_io.core.errors import UserError
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training.experiment import Experiment

CONFIG = 'config.json'
FACTS = 'perceiver_io'  # our key in a JSON file
READERS = {
    '.pystate': pystate.read_pystate,
    '.safetensors': safetensors_file.read_safetensors,
    '.bin': torch_file.read_torch,
}


class Loaded(NamedTuple):
    """A trained model and what is known of it.

    Attributes:
        experiment: that of the run. Weights that come without one have the default one, with their
            own model and, for data, a folder that is yet to be named (`data.path`).
        params: {module: {name: float32}}, on one device.
        classes: names by index; fewer than `config.classes` where the run's clips had fewer.
        step: of training; None where it is not known.
    """

    experiment: Experiment
    params: hk.Params
    classes: tuple[str, ...]
    step: int | None

    @property
    def config(self) -> AutoencoderConfig:
        """The model's."""
        return self.experiment.model


def read_file(path: str | os.PathLike) -> Loaded:
    """Reads a file of weights, of the format that its name ends in.

    Raises:
        UserError: in one line, why it is not the weights of a model.
    """
    path = pathlib.Path(path)
    if path.suffix not in READERS:
        raise UserError(f'{path}: its name ends in none of {", ".join(READERS)}')
    params = READERS[path.suffix](path)
    haiku = path.suffix == '.pystate'
    beside = path.with_suffix('.json') if haiku else path.with_name(CONFIG)
    with about(beside):
        values = _read_json(beside)
        facts = _facts(values)
        known = facts.get('model')
        if known is None and not haiku:
            known = (
                transformers_config.from_transformers(values)
                if values
                else transformers_config.WITHOUT_CONFIG
            )
    with about(path):
        if not haiku:
            params = transformers_names.to_haiku(params)
        experiment = _experiment(params, known or {}, facts.get('frame_rate', 25), beside.name)
    untold = 'model' not in facts and (haiku or not values)
    if untold and experiment.model != dataclasses.replace(AutoencoderConfig(), **known or {}):
        logging.warning(
            '%s: what arrays do not tell, such as heads, is taken to be as released; '
            '%s beside it could tell',
            path,
            beside.name,
        )
    names = facts.get('classes') or transformers_config.class_names(values)
    classes = _classes(experiment.model, names)
    return Loaded(
        experiment, jax.device_put(params, jax.local_devices()[0]), classes, facts.get('step')
    )


def write_pystate(path: pathlib.Path, loaded: Loaded) -> list[pathlib.Path]:
    """Writes `path` and, beside it, what it does not tell; returns what was written."""
    beside = path.with_suffix('.json')
    _must_be_new(path, beside)
    path.parent.mkdir(parents=True, exist_ok=True)
    pystate.write_pystate(path, loaded.params)
    files.write_text(beside, _to_json({FACTS: _facts_of(loaded)}))
    return [path, beside]


def write_transformers(path: pathlib.Path, loaded: Loaded) -> list[pathlib.Path]:
    """Writes `path` and `config.json` beside it, for the transformers library; returns both."""
    beside = path.with_name(CONFIG)
    _must_be_new(path, beside)
    given = loaded.classes + _numbered(loaded.config)[len(loaded.classes) :]
    values = transformers_config.to_transformers(loaded.config, given)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors_file.write_safetensors(path, transformers_names.to_transformers(loaded.params))
    files.write_text(beside, _to_json(values | {FACTS: _facts_of(loaded)}))
    return [path, beside]


def _experiment(
    params: Mapping[str, Mapping[str, np.ndarray]],
    known: Mapping[str, Any],
    frame_rate: int,
    source: str,
) -> Experiment:
    """The experiment that has this model; InvalidFileError where there is none such."""
    sizes = model_sizes.read_sizes(params)
    for name, value in sizes.items():
        said = known.get(name, value)
        if name == 'modalities' and isinstance(said, list | tuple):
            said = tuple(modality for modality in AutoencoderConfig.modalities if modality in said)
        if said != value:
            raise InvalidFileError(
                f'{source} says {name}={reprlib.repr(said)}, and the arrays {value}'
            )
    try:
        experiment = Experiment.from_dict(
            {'model': {**known, **sizes}, 'data': {'source': 'folder', 'frame_rate': frame_rate}}
        )
    except ValueError as error:
        raise InvalidFileError(f'no model is of such a config: {error}') from error
    if 'video' in sizes['modalities']:
        model_sizes.check_video_patch(params, experiment.model)
    model_sizes.check_shapes(params, experiment.model)
    return experiment


def _classes(config: AutoencoderConfig, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names given, else those of Kinetics-700 where there are as many, else numbers."""
    if 'label' not in config.modalities:
        return ()
    if names is not None and len(names) <= config.classes:
        return tuple(names)
    return kinetics700.CLASSES if config.classes == 700 else _numbered(config)


def _numbered(config: AutoencoderConfig) -> tuple[str, ...]:
    return tuple(f'class {index}' for index in range(config.classes))


def _facts_of(loaded: Loaded) -> dict[str, Any]:
    return {
        'model': dataclasses.asdict(loaded.config),
        'frame_rate': loaded.experiment.data.frame_rate,
        'classes': loaded.classes,
        'step': loaded.step,
    }


def _facts(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `_facts_of` wrote, checked as far as `Experiment.from_dict` does not; {} for nothing."""
    facts = values.get(FACTS, {})
    if not isinstance(facts, dict) or not isinstance(facts.get('model', {}), dict):
        raise InvalidFileError(f'its {FACTS} is no group of keys')
    names = facts.get('classes', [])
    if not isinstance(names, list) or not all(map(is_name, names)):
        raise InvalidFileError(f'its {FACTS}.classes is no list of names')
    step = facts.get('step')
    if step is not None and (type(step) is not int or step < 0):
        raise InvalidFileError(f'its {FACTS}.step is no number of steps')
    return facts


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    """What is in a file; {} where there is none."""
    if not path.exists():
        return {}
    values = read_json(path)
    if not isinstance(values, dict):
        raise InvalidFileError('it holds no group of keys')
    return values


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=1) + '\n'


def _must_be_new(*paths: pathlib.Path) -> None:
    for path in paths:
        if path.exists():
            raise UserError(f'{path} is there already: choose another name, or remove it first')
