"""The mesh, and how arrays lie on it. One device is a 1 x 1 mesh and takes the same path.

Axes: `data` divides the examples of a batch, `context` the frames and samples of each example, and
with them the tokens. Parameters are on every device.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from perceiver_io.core.clip import Clip
from perceiver_io.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh.

    Attributes:
        data: devices that divide a batch; 0 for all that `context` leaves.
        context: devices that divide each clip.
    """

    data: int = 0
    context: int = 1

    def __post_init__(self):
        if self.data < 0 or self.context < 1:
            raise UserError(
                f'mesh data={self.data} must not be negative, '
                f'context={self.context} must be at least 1'
            )


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """All devices of all processes as a (data, context) mesh."""
    devices = jax.devices() if devices is None else devices
    data = config.data or len(devices) // config.context
    if data * config.context != len(devices):
        raise UserError(
            f'mesh data={config.data} x context={config.context} does not use the {len(devices)} '
            f'devices there are: their product must be {len(devices)} (data=0 takes what is left)'
        )
    # Haiku's code does not carry shardings in its types: the compiler places what is inside.
    return jax.make_mesh(
        (data, config.context),
        ('data', 'context'),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def clip_sharding(mesh: Mesh) -> Clip:
    """Shardings of a batch of clips: video and audio over both axes, labels over `data`."""
    both = NamedSharding(mesh, PartitionSpec('data', 'context'))
    return Clip(video=both, audio=both, label=NamedSharding(mesh, PartitionSpec('data')))


def example_sharding(mesh: Mesh) -> NamedSharding:
    """Arrays [b, ...] with a number or a row for each example of a batch."""
    return NamedSharding(mesh, PartitionSpec('data'))


def check_divisible(mesh: Mesh, *, batch_size: int, frames: int, accumulate: int = 1) -> None:
    """Raises UserError, saying what to change, where a batch does not fit the mesh."""
    data, context = mesh.shape['data'], mesh.shape['context']
    if batch_size % (data * accumulate):
        parts = f' times {accumulate=}' if accumulate > 1 else ''
        raise UserError(
            f'{batch_size=} must be divisible by {data * accumulate}, the '
            f'{data} devices along the mesh axis "data"{parts}'
        )
    if frames % context:
        raise UserError(f'{frames=} must be divisible by the mesh axis context={context}')


def put_clip(clip: Clip, mesh: Mesh) -> Clip:
    """This process's part of a batch to its place in the global batch on the mesh."""
    return Clip(
        *[
            None if array is None else jax.make_array_from_process_local_data(sharding, array)
            for array, sharding in zip(clip, clip_sharding(mesh))
        ]
    )


def put_examples(tree: Any, mesh: Mesh) -> Any:
    """This process's rows of arrays [b, ...] to their places on the mesh."""
    sharding = example_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """Arrays that every process has whole, such as parameters, to every device of the mesh."""
    sharding = replicated(mesh)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(put, tree)


def fetch(tree: Any) -> Any:
    """Replicated device arrays to numpy, on any number of processes."""
    return jax.tree.map(np.asarray, tree)
