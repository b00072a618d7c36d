"""Starting from a model that is already trained: what is kept, what is new, and why.

A parameter is kept if its shape does not follow from the classes or the modalities. The width of
a token does (704 is 700 classes and a padding of 4), and the first cross-attention hangs on it. So
the paddings are raised until tokens and queries are as wide as the source's: with fewer classes
only the label's padding and the label head are new, and a model that does not see the label does
what the source did. Wider tokens are refused: what would be left could not read a clip. All of
this is ours.
"""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

import haiku as hk
import jax
import numpy as np

from perceiver_io.checkpoints import loading, store
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.formats.checks import InvalidFileError, read_json
from perceiver_io.core import files
from perceiver_io.core.config_values import build, typed
from perceiver_io.core.errors import UserError
from perceiver_io.data import sources
from perceiver_io.data.config import DataConfig
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.models.modalities import Readout
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment

INIT_FROM = 'init_from.json'

# What the parameters do not depend on, or only those that may be new. The rest is the source's.
_CLIP_SIZE = ('frames', 'height', 'width', 'samples_per_frame')
_OWN = (
    *_CLIP_SIZE,
    'modalities',
    'classes',
    'dropout',
    'attention_dropout',
    'dtype',
    'attention',
    'remat',
    'decode_memory',
)
# What nothing depends on in a source without the modality.
_OF_MODALITY = {
    'video': ('channels', 'video_patch', 'video_bands', 'video_max_resolution'),
    'audio': ('audio_patch', 'audio_bands', 'audio_max_resolution'),
    'label': ('label_query_channels',),
}
_PADDINGS = {'input_padding': 'token_channels', 'query_padding': 'query_channels'}


def fit_config(
    wanted: Mapping[str, Any], source: AutoencoderConfig, name: str = 'the source'
) -> AutoencoderConfig:
    """The config of a model that goes on with the parameters of another one.

    Args:
        wanted: keys of `AutoencoderConfig`; those that are None or left out are the source's. The
            paddings are raised to what keeps the widths of tokens and queries.
        source: the config of the other one.
        name: what errors call it.

    Returns:
        The config. With another size of the clip, it keeps the frequencies of the places.

    Raises:
        UserError: a key contradicts the source, or tokens or queries would have to be wider.
    """
    given = {key: value for key, value in wanted.items() if value is not None}
    absent = [modality for modality in _OF_MODALITY if modality not in source.modalities]
    free = (*_OWN, *(key for modality in absent for key in _OF_MODALITY[modality]))
    fixed = {key: value for key, value in given.items() if key not in (*free, *_PADDINGS)}
    contradictions = [
        f'model.{key}={value!r} (there {getattr(source, key)!r})'
        for key, value in fixed.items()
        if value != getattr(source, key)
    ]
    if contradictions:
        raise UserError(
            f'{name} has other parameters than {", ".join(contradictions)}: leave '
            'these keys out (None), or set them to what it has'
        )
    own = {key: value for key, value in given.items() if key in free}
    if 'label' in absent:  # its query is new, and can be as wide as the others
        widest = max(1, source.query_channels - given.get('query_padding', 0))
        own.setdefault('label_query_channels', min(source.label_query_channels, widest))
    if any(own.get(key, getattr(source, key)) != getattr(source, key) for key in _CLIP_SIZE):
        own = {
            'video_max_resolution': source.video_tokens_position.max_resolution,
            'audio_max_resolution': source.audio_position.max_resolution[0],
        } | own

    bare = dataclasses.replace(  # one head, as this width is not yet one that heads must divide
        source, **own, input_padding=0, query_padding=0, cross_attention_heads=1
    )
    paddings = {
        padding: getattr(source, width) - getattr(bare, width)
        for padding, width in _PADDINGS.items()
    }
    for padding, width in _PADDINGS.items():
        least = given.get(padding, 0)
        if paddings[padding] < least:
            raise UserError(
                f'{width} would be {getattr(bare, width) + least} and {name} has '
                f'{getattr(source, width)}, whose parameters fit nothing wider: lower what needs '
                f'it (model.classes={bare.classes}, model.modalities={bare.modalities}, '
                f'model.{padding}={least}), or train without init_from'
            )
    return dataclasses.replace(source, **own, **paddings)


def resolve(
    values: Mapping[str, Any], workdir: str | os.PathLike
) -> tuple[Experiment, Checkpoint | None]:
    """The experiment with all that it takes from the checkpoint in `init_from`, and the latter.

    A run that has a checkpoint of its own takes them from its folder: the checkpoint that it
    started from may be gone. None stands for what is taken: in `model`, where the number of classes
    is then that of the clips, and in `data.frame_rate`.

    Args:
        values: nested dictionaries, as for `Experiment.from_dict`.
        workdir: the folder of the run.

    Raises:
        UserError: see `fit_config` and `loading.load_checkpoint`.
    """
    name = values.get('init_from')
    model, data = dict(values.get('model', {})), dict(values.get('data', {}))
    if not name:
        if None in (model.get('classes', 0), model.get('latents', 0)):
            raise UserError(
                'this config takes its model from a checkpoint: set --config.init_from to one'
            )
        return Experiment.from_dict(values), None
    source = None
    run = None
    if store.latest_step(workdir) is not None:
        run = run_folder.read_experiment(workdir)
    if run is not None and run.init_from == name:
        before, frame_rate = run.model, run.data.frame_rate
    else:
        source = loading.load_checkpoint(name)
        before, frame_rate = source.config, source.frame_rate

    if data.get('frame_rate', 0) is None:
        data['frame_rate'] = frame_rate
    given = {key: value for key, value in model.items() if value is not None}
    wanted = typed(AutoencoderConfig, given, 'model.')
    if 'label' in wanted.get('modalities', before.modalities) and 'classes' not in wanted:
        wanted['classes'] = len(sources.class_names(build(DataConfig, data, 'data.')))
    fitted = fit_config(wanted, before, str(name if source else workdir))
    return Experiment.from_dict(
        values | {'model': dataclasses.asdict(fitted), 'data': data}
    ), source


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run started from; `init_from.json` in its folder.

    Attributes:
        source: the checkpoint, as it was named.
        step: of the source; None where it does not say.
        kept: how many of its arrays are kept.
        new: reason by parameter ('module/name') that is initialised anew.
        left_out: parameters of the source that have no place in the model.
        changed: [in the source, here] by key of the model's config.
    """

    source: str = ''
    step: int | None = None
    kept: int = 0
    new: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)
    changed: dict[str, list] = dataclasses.field(default_factory=dict)

    @classmethod
    def plan(cls, experiment: Experiment, source: Checkpoint, classes: Sequence[str]) -> Self:
        """What `take_over` will do.

        The label head is new also where it has the right shape but the classes have other names.
        """
        model = experiment.model
        own = _shapes(jax.eval_shape(Autoencoder(model).init, jax.random.key(0)))
        theirs = _shapes(source.params)
        new = {
            name: f'{list(theirs[name])} in the source' if name in theirs else 'not in the source'
            for name, shape in own.items()
            if theirs.get(name) != shape
        }
        if tuple(classes) != source.classes:
            head = f'{Readout.NAMES["label"]}/'
            new |= {
                name: 'its classes are others in the source'
                for name in own
                if name.startswith(head) and name not in new
            }
        changed = {
            key: [getattr(source.config, key), value]
            for key, value in vars(model).items()
            if value != getattr(source.config, key)
        }
        start = cls(
            experiment.init_from,
            source.step,
            len(own) - len(new),
            new,
            sorted(theirs.keys() - own.keys()),
            changed,
        )
        if experiment.optimizer.head_first and not new:
            raise UserError(
                'optimizer.head_first is for parameters that the source has not, and '
                'it has them all: set head_first to 0'
            )
        return start

    def take_over(self, fresh: hk.Params, source: hk.Params) -> hk.Params:
        """The source's parameters, laid where the fresh ones lie, and the fresh ones if new."""

        def pick(module, name, leaf):
            if f'{module}/{name}' in self.new:
                return leaf
            return jax.make_array_from_process_local_data(
                leaf.sharding, np.asarray(source[module][name])
            )

        return {
            module: {name: pick(module, name, leaf) for name, leaf in leaves.items()}
            for module, leaves in fresh.items()
        }

    def lines(self) -> list[str]:
        """For the user: what is new, left out and changed."""
        step = '' if self.step is None else f', step {self.step}'
        lines = [f'{self.source}{step}: {self.kept} arrays kept, {len(self.new)} new']
        lines += [f'  new: {name} ({reason})' for name, reason in self.new.items()]
        lines += [f'  left out: {name}' for name in self.left_out]
        return lines + [
            f'  changed: model.{key} is {here}, in the source {there}'
            for key, (there, here) in self.changed.items()
        ]


def begin(
    experiment: Experiment,
    workdir: str | os.PathLike,
    source: Checkpoint | None,
    classes: Sequence[str],
) -> Start:
    """What a run starts from: planned, shown and kept in its folder, or found there.

    Args:
        experiment: of the run.
        workdir: its folder.
        source: where its parameters are to come from; None where they come from the folder, or
            from nowhere.
        classes: names of the run's classes, by index.
    """
    path = pathlib.Path(workdir) / INIT_FROM
    if source is None:
        if not experiment.init_from:
            return Start()
        try:
            return Start(**read_json(path))
        except (OSError, InvalidFileError, TypeError) as error:
            raise UserError(
                f'{path}, what the run started from, is missing or damaged: restore '
                'it, or start the run in another --workdir'
            ) from error
    start = Start.plan(experiment, source, classes)
    if jax.process_index() == 0:
        files.write_text(path, json.dumps(dataclasses.asdict(start), indent=1) + '\n')
        print('\n'.join(start.lines()), file=sys.stderr)
    return start


def _shapes(params: hk.Params) -> dict[str, tuple[int, ...]]:
    return {
        f'{module}/{name}': tuple(leaf.shape)
        for module, leaves in params.items()
        for name, leaf in leaves.items()
    }
