"""Writes files of weights, with what arrays do not tell in a JSON file beside them."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from perceiver_io.checkpoints import transformers
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.formats import pystate, safetensors_file
from perceiver_io.checkpoints.loading import CONFIG, FACTS
from perceiver_io.core import files
from perceiver_io.core.errors import UserError


def write_pystate(path: pathlib.Path, checkpoint: Checkpoint) -> list[pathlib.Path]:
    """Writes `x.pystate` and `x.json`; returns both. Neither may exist."""
    beside = path.with_suffix('.json')
    _must_be_new(path, beside)
    path.parent.mkdir(parents=True, exist_ok=True)
    pystate.write_pystate(path, checkpoint.params)
    files.write_text(beside, _to_json({FACTS: _facts(checkpoint)}))
    return [path, beside]


def write_transformers(path: pathlib.Path, checkpoint: Checkpoint) -> list[pathlib.Path]:
    """Writes `model.safetensors` and `config.json` for the transformers library; returns both.

    Raises:
        UserError: one of them exists, or the library's class cannot represent the model.
    """
    beside = path.with_name(CONFIG)
    _must_be_new(path, beside)
    names = [checkpoint.class_name(index) for index in range(checkpoint.config.classes)]
    values = transformers.to_config(checkpoint.config, names)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors_file.write_safetensors(path, transformers.to_arrays(checkpoint.params))
    files.write_text(beside, _to_json(values | {FACTS: _facts(checkpoint)}))
    return [path, beside]


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        'model': dataclasses.asdict(checkpoint.config),
        'frame_rate': checkpoint.frame_rate,
        'classes': checkpoint.classes,
        'step': checkpoint.step,
    }


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=1) + '\n'


def _must_be_new(*paths: pathlib.Path) -> None:
    for path in paths:
        if path.exists():
            raise UserError(f'{path} exists already: choose another name, or remove it first')
