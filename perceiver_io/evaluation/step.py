"""The evaluation step: a batch of clips through the model, measured on the devices."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from perceiver_io.core.clip import Array, Clip, Output, to_float
from perceiver_io.distributed.sharding import (
    clip_sharding,
    example_sharding,
    replicated,
    whole_examples,
)
from perceiver_io.metrics.record import Statistic


class Reconstructs(Protocol):
    """What is evaluated: `models.autoencoder.Autoencoder`, or something like it."""

    def reconstruct(self, params: hk.Params, *, video: Array, audio: Array) -> Output: ...


class Places(NamedTuple):
    """Where the windows of a batch come from, [b] each; see `data.loader.Batch`.

    Attributes:
        mask: bool, False where there is no clip but zeros.
        record: int32, index of the clip; -1 for padding.
        label: int32 class index of the clip; -1 where unknown.
    """

    mask: Array
    record: Array
    label: Array


class Measured(NamedTuple):
    """A batch after the step.

    Attributes:
        statistics: name to [b, ...], whole on every device.
        places: the same, of all processes.
        reconstruction: video uint8 and audio int16, in the sizes of the clip and lying as it does;
            label holds the class scores float32 [b, k].
    """

    statistics: dict[str, jax.Array]
    places: Places
    reconstruction: Clip


EvalStep = Callable[[hk.Params, Clip, Places], Measured]


def make_eval_step(model: Reconstructs, statistics: Sequence[Statistic], mesh: Mesh) -> EvalStep:
    """step(params, clip, places) -> Measured, jitted for the mesh; see `eval_program`."""
    program = eval_program(model, statistics, mesh)
    return lambda params, clip, places: Measured(*program(params, clip, places))


def eval_program(
    model: Reconstructs, statistics: Sequence[Statistic], mesh: Mesh
) -> jax.stages.Wrapped:
    """program(params, clip, places) -> the fields of `Measured`, jitted; the label is hidden.

    Args:
        model: the model.
        statistics: those of modalities that the model lacks are left out.
        mesh: on which the clip and the places lie as `distributed.sharding` says.
    """

    def whole_audio(clip: Any) -> Any:
        """Spectra are of overlapping frames, which would be sent instead of the samples."""
        audio = clip.audio
        return clip if audio is None else clip._replace(audio=whole_examples(audio, mesh))

    def eval_step(
        params: hk.Params, clip: Clip, places: Places
    ) -> tuple[dict[str, jax.Array], Places, Clip]:
        target = to_float(clip)
        output = model.reconstruct(params, video=target.video, audio=target.audio)
        compared, expected = whole_audio(output), to_float(whole_audio(clip))
        measured = {
            statistic.name: statistic.measure(compared, expected)
            for statistic in statistics
            if statistic.modality is None or getattr(output, statistic.modality) is not None
        }
        return measured, places, to_integers(output)

    everywhere = replicated(mesh)
    return jax.jit(
        eval_step,
        in_shardings=(everywhere, clip_sharding(mesh), example_sharding(mesh)),
        out_shardings=(everywhere, everywhere, clip_sharding(mesh)),
    )


def to_integers(output: Output) -> Clip:
    """A reconstruction as files hold it: clipped to the range and rounded; label: class scores."""
    video, audio, label = output
    if video is not None:
        video = jnp.round(jnp.clip(video, 0, 1) * 255).astype(jnp.uint8)
    if audio is not None:
        audio = jnp.clip(jnp.round(audio * 32768), -32768, 32767).astype(jnp.int16)
    return Clip(video, audio, None if label is None else jax.nn.softmax(label))


def make_row(mesh: Mesh) -> Callable[[Any, int], Any]:
    """row(tree, index) -> one row of arrays [b, ...], in numpy, on every process."""
    row = jax.jit(
        lambda tree, index: jax.tree.map(lambda x: x[index], tree), out_shardings=replicated(mesh)
    )
    return lambda tree, index: jax.tree.map(np.asarray, row(tree, index))
