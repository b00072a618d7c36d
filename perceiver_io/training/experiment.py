"""An experiment: typed configs, from the dictionaries of `configs/` and of saved runs.

Unknown keys and wrong types are reported before anything slow starts.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from jax.sharding import Mesh

from perceiver_io.checkpoints.checkpoint import clip_spec
from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.config_values import build
from perceiver_io.core.errors import UserError
from perceiver_io.data.config import DataConfig
from perceiver_io.distributed import sharding
from perceiver_io.distributed.sharding import MeshConfig
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training.initialization.placement import Placement
from perceiver_io.training.initialization.places import check_placement
from perceiver_io.training.optimizer import OptimizerConfig
from perceiver_io.training.steps import SamplingConfig


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The loop.

    Attributes:
        steps: updates in all.
        batch_size: examples in an update, over all devices and processes.
        accumulate: parts into which a batch is split, computed one after the other.
        seed: of initialization, order, windows, masks and queries.
        log_every: steps between lines of metrics.
        eval_every: steps between evaluations; 0 for one at the end only.
        eval_clips: clips of the evaluation split that are evaluated, spread evenly; 0 for all.
        eval_batch_size: windows decoded at a time, over all devices.
        checkpoint_every: steps between checkpoints.
        max_bad_steps: bad steps in a row that stop the training. A step is bad if its loss or
            gradient is not finite; it changes neither parameters nor optimizer state.
        keep: how many of the newest checkpoints are kept; the best one is kept too.
    """

    steps: int = 100_000
    batch_size: int = 1024
    accumulate: int = 1
    seed: int = 0
    log_every: int = 50
    eval_every: int = 5000
    eval_clips: int = 0
    eval_batch_size: int = 8
    checkpoint_every: int = 1000
    max_bad_steps: int = 10
    keep: int = 2

    def __post_init__(self) -> None:
        for name in (
            'steps',
            'batch_size',
            'accumulate',
            'log_every',
            'eval_batch_size',
            'checkpoint_every',
            'max_bad_steps',
            'keep',
        ):
            if getattr(self, name) < 1:
                raise UserError(f'training.{name}={getattr(self, name)} must be at least 1')
        for name in ('seed', 'eval_every', 'eval_clips'):
            if getattr(self, name) < 0:
                raise UserError(f'training.{name}={getattr(self, name)} must not be negative')


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run depends on; saved as `config.json` in its folder.

    Attributes:
        init_from: the checkpoint whose parameters the run takes over, see `training.start`; '' for
            none.
        initialization: knobs of the placed start, with `model.initialization='placed'`.
    """

    init_from: str = ''
    model: AutoencoderConfig = AutoencoderConfig()
    data: DataConfig = DataConfig()
    sampling: SamplingConfig = SamplingConfig()
    loss: LossWeights = LossWeights()
    initialization: Placement = Placement()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self) -> None:
        if self.optimizer.head_first and not self.init_from:
            raise UserError(
                f'optimizer.head_first={self.optimizer.head_first} is for runs that start from a '
                'checkpoint: set --config.init_from, or head_first to 0'
            )
        batch_size, windows = self.training.batch_size, self.data.windows_per_read
        if batch_size % windows:
            raise UserError(
                f'training.{batch_size=} must be a multiple of data.windows_per_read={windows}'
            )
        self._check_sampling()
        if self.model.initialization == 'placed' and not self.init_from:
            check_placement(self.model, self.initialization)

    def _check_sampling(self) -> None:
        sampling, model = self.sampling, self.model
        hides = sampling.video_masked or sampling.audio_masked
        if hides and not {'video', 'audio'} <= set(model.modalities):
            raise UserError(
                'sampling.video_masked and audio_masked need a model with video and audio, not '
                f'modalities={model.modalities}: set them to 0'
            )
        if max(sampling.latents_kept, default=0) > model.latents:
            raise UserError(
                f'sampling.latents_kept={sampling.latents_kept} must be at most the '
                f'model.latents={model.latents}'
            )

    def check_mesh(self, mesh: Mesh, programs: Collection[str] = ('train', 'eval')) -> None:
        """Raises UserError, naming the key, where these programs do not fit a mesh."""
        config, frames = self.training, self.model.frames
        if 'train' in programs:
            sharding.check_divisible(
                mesh,
                batch_size=config.batch_size,
                frames=frames,
                accumulate=config.accumulate,
                key='training.batch_size',
            )
        if 'eval' in programs:
            sharding.check_divisible(
                mesh,
                batch_size=config.eval_batch_size,
                frames=frames,
                key='training.eval_batch_size',
            )
        sharding.check_attention(mesh, self.model.attention)

    @property
    def clip_spec(self) -> ClipSpec:
        """How files must be read to fit the model."""
        return clip_spec(self.model, self.data.frame_rate)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'Experiment':
        """From nested dictionaries; keys left out keep their defaults.

        Raises:
            UserError: an unknown key (with the nearest known one), a wrong type, or sizes that
                do not fit each other.
        """
        return build(cls, values)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + '\n'
