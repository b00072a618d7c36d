"""The programs that a run compiles, with the shapes of their arguments: nothing is computed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from perceiver_io.core.clip import Clip
from perceiver_io.distributed import sharding
from perceiver_io.distributed.flops import matrix_products
from perceiver_io.evaluation.evaluate import measures_for
from perceiver_io.evaluation.rows import statistics_of
from perceiver_io.evaluation.step import Places, eval_program
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.optimizer import make_optimizer
from perceiver_io.training.steps import TrainState, make_loss, make_train_step, stream


class Program(NamedTuple):
    """A program before it is compiled.

    Attributes:
        jitted: for its mesh.
        arguments: shapes, not arrays.
        flops: computes those of the matrix products on a device, loops counted; it traces them.
        examples: in a batch over all devices.
    """

    jitted: Any
    arguments: tuple[Any, ...]
    flops: Callable[[], float]
    examples: int


class Programs:
    """The programs of an experiment on a mesh, whose devices need not be here.

    Args:
        experiment: complete, with the number of classes.
        mesh: of all devices.
        platform: of the devices: 'cpu', 'gpu' or 'tpu'.
    """

    def __init__(self, experiment: Experiment, mesh: Mesh, platform: str) -> None:
        self._experiment = experiment
        self._mesh = mesh
        self._model = Autoencoder(experiment.model.for_platform(platform))
        self._optimizer = make_optimizer(experiment.optimizer, experiment.training.steps)
        self._params = jax.eval_shape(self._model.init, jax.random.key(0))

    def init(self) -> Program:
        """Makes the first state of a training."""

        def init() -> TrainState:
            params = self._model.init(stream(self._experiment.training.seed, 'init', 0))
            return TrainState(jnp.zeros((), jnp.int32), params, self._optimizer.init(params))

        jitted = jax.jit(init, out_shardings=sharding.state_sharding(self._mesh))
        return Program(jitted, (), lambda: 0.0, 0)

    def train(self) -> Program:
        """The training step."""
        experiment, config = self._experiment, self._experiment.training
        step = make_train_step(
            self._model,
            self._optimizer,
            experiment.loss,
            experiment.sampling,
            seed=config.seed,
            mesh=self._mesh,
            accumulate=config.accumulate,
        )
        moments = jax.eval_shape(self._optimizer.init, self._params)
        step_number: Any = jax.ShapeDtypeStruct((), jnp.int32)
        state = TrainState(step_number, self._params, moments)
        loss = make_loss(self._model, experiment.loss, experiment.sampling)

        def gradient(params: Any, clip: Clip) -> Any:
            return jax.grad(loss, has_aux=True)(params, clip, config.seed, jnp.int32(0))

        def update(params: Any, grads: Any, moments: optax.OptState) -> Any:
            return self._optimizer.update(grads, moments, params)

        clip = self._clip(config.batch_size)

        def flops() -> float:
            divided = matrix_products(gradient, self._params, clip) / self._mesh.size
            return divided + matrix_products(update, self._params, self._params, moments)

        return Program(step, (state, clip), flops, config.batch_size)

    def evaluate(self) -> Program:
        """The evaluation step."""
        experiment, batch = self._experiment, self._experiment.training.eval_batch_size
        measures = measures_for(experiment.model.modalities, experiment.clip_spec, experiment.loss)
        model = self._model
        program = eval_program(model, statistics_of(*measures), self._mesh)
        clip = self._clip(batch)
        index = jax.ShapeDtypeStruct((batch,), jnp.int32)
        places = Places(jax.ShapeDtypeStruct((batch,), jnp.bool_), index, index)

        def reconstruct(params: Any, clip: Clip) -> Any:
            return model.reconstruct(params, video=clip.video, audio=clip.audio)

        def flops() -> float:
            return matrix_products(reconstruct, self._params, clip) / self._mesh.size

        return Program(program, (self._params, clip, places), flops, batch)

    def _clip(self, batch: int) -> Clip:
        config = self._experiment.model
        return Clip(
            video=jax.ShapeDtypeStruct((batch, *config.video_shape, config.channels), jnp.uint8),
            audio=jax.ShapeDtypeStruct((batch, config.samples, 1), jnp.int16),
            label=jax.ShapeDtypeStruct((batch,), jnp.int32),
        )
