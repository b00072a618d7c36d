"""The device mesh and the rules by which arrays are placed on it.

One device is a 1 x 1 mesh and takes the same code path. The mesh has two axes: `data` divides the
examples of a batch, `context` divides the frames and samples of each example, and with them the
tokens. This is the only file that names a PartitionSpec.

| array | divided by |
| --- | --- |
| parameters, optimizer state, step | nothing: a copy on every device (240 MB at the paper's size) |
| video [b, t, h, w, c], audio [b, s, 1] | `data` along b, `context` along t or s |
| other values of examples [b, ...] | `data` along b |
| metrics | nothing: every process can read them |
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from perceiver_io.core.clip import Clip
from perceiver_io.core.errors import UserError

CLIP = PartitionSpec('data', 'context')  # of video and audio


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh.

    Attributes:
        data: devices that divide a batch; 0 for all that `context` leaves.
        context: devices that divide each clip.
    """

    data: int = 0
    context: int = 1

    def __post_init__(self) -> None:
        if self.data < 0 or self.context < 1:
            raise UserError(
                f'mesh data={self.data} must not be negative, '
                f'context={self.context} must be at least 1'
            )


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The devices, by default all of all processes, as a (data, context) mesh."""
    devices = jax.devices() if devices is None else devices
    data = config.data or len(devices) // config.context
    if data * config.context != len(devices):
        raise UserError(
            f'mesh data={config.data} x context={config.context} does not use the {len(devices)} '
            f'devices there are: their product must be {len(devices)} (data=0 takes what is left)'
        )
    # Auto, because Haiku's code does not carry shardings in its types: the compiler places the
    # arrays inside a program.
    shape, names, types = (data, config.context), ('data', 'context'), (AxisType.Auto,) * 2
    try:
        return jax.make_mesh(shape, names, axis_types=types, devices=devices)
    except NotImplementedError:  # no axes of the chips' grid have these products: one is split
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(grid, names, axis_types=types)


def check_attention(mesh: Mesh, attention: str) -> None:
    """Raises UserError where `plain` attention would be divided along `context`.

    In its compiled step on 8 CPU devices every device gathers the array of all tokens, and sends
    more by all-to-alls. That of `exact` has all-reduces only.
    """
    if attention == 'plain' and mesh.shape['context'] > 1:
        raise UserError(
            f'mesh.context={mesh.shape["context"]} needs model.attention=exact, the same '
            'function: plain would send whole clips of tokens between the devices in every step'
        )


def state_sharding(mesh: Mesh) -> Sharding:
    """Of parameters and optimizer state. A larger model would divide them here."""
    return NamedSharding(mesh, PartitionSpec())


def replicated(mesh: Mesh) -> Sharding:
    """Of results that the host reads: whole on every device, so that every process has them."""
    return NamedSharding(mesh, PartitionSpec())


def example_sharding(mesh: Mesh) -> Sharding:
    """Of arrays [b, ...] with a value for each example."""
    return NamedSharding(mesh, PartitionSpec('data'))


def whole_examples(x: jax.Array, mesh: Mesh) -> jax.Array:
    """An array [b, t or s, ...] of clips inside a program, with each example whole on its devices.

    What computes it stays divided as `clip_sharding` says.
    """
    divided = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, CLIP))
    return jax.lax.with_sharding_constraint(divided, example_sharding(mesh))


def clip_sharding(mesh: Mesh) -> Clip:
    """Of a batch of clips."""
    divided = NamedSharding(mesh, CLIP)
    return Clip(video=divided, audio=divided, label=example_sharding(mesh))


def check_divisible(
    mesh: Mesh, *, batch_size: int, frames: int, accumulate: int = 1, key: str = 'batch_size'
) -> None:
    """Raises UserError, saying what to change, where a batch does not fit the mesh.

    Args:
        mesh: of devices.
        batch_size: of the global batch.
        frames: of each clip.
        accumulate: parts in which a batch is computed.
        key: what the user sets the batch size by.
    """
    data, context = mesh.shape['data'], mesh.shape['context']
    if batch_size % (data * accumulate):
        parts = f' times {accumulate=}' if accumulate > 1 else ''
        raise UserError(
            f'{key}={batch_size} must be divisible by {data * accumulate}, the '
            f'{data} devices along the mesh axis "data"{parts}'
        )
    if frames % context:
        raise UserError(f'{frames=} must be divisible by the mesh axis context={context}')


def describe(mesh: Mesh, state: Any) -> str:
    """One line: the devices, and how much of their memory a state takes, as it lies there."""
    device = mesh.local_devices[0]
    axes = ' x '.join(f'{name} {size}' for name, size in mesh.shape.items())
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    limit = (device.memory_stats() or {}).get('bytes_limit')
    room = f' of {limit / 1e6:,.0f} MB' if limit else ''
    return (
        f'{mesh.size} x {device.device_kind} ({axes}); parameters and optimizer take '
        f'{held / 1e6:,.1f} MB{room} on each'
    )


def own_rows(mesh: Mesh, batch_size: int, process: int | None = None) -> Sequence[int]:
    """Rows of a global batch that the devices of a process hold, in increasing order.

    They need not follow one another: on TPUs, the order of the devices in a mesh is that of their
    network. Processes whose devices share a clip along `context` have the same rows.

    Args:
        mesh: of the devices of all processes.
        batch_size: of the global batch; a multiple of the devices along `data`.
        process: its index; None for this one.
    """
    process = jax.process_index() if process is None else process
    each = batch_size // mesh.shape['data']
    return [place * each + row for place in _own_places(mesh, process) for row in range(each)]


def _own_places(mesh: Mesh, process: int) -> list[int]:
    """Along `data`, of the devices of a process."""
    return [
        place
        for place, devices in enumerate(mesh.devices)
        if any(device.process_index == process for device in devices)
    ]


def put_clip(clip: Clip, mesh: Mesh) -> Clip:
    """The examples `own_rows` of a batch, placed in the global batch."""
    return Clip(
        *[
            None if array is None else _put(array, sharding, mesh)
            for array, sharding in zip(clip, clip_sharding(mesh))
        ]
    )


def put_examples(tree: Any, mesh: Mesh) -> Any:
    """A tree of arrays [b, ...] with the examples `own_rows`, placed in the global batch."""
    return jax.tree.map(lambda x: _put(x, example_sharding(mesh), mesh), tree)


def _put(own: np.ndarray, sharding: Sharding, mesh: Mesh) -> jax.Array:
    """An array of which this process has the rows `own_rows`."""
    places = _own_places(mesh, jax.process_index())
    each = len(own) // len(places)
    rows = each * mesh.shape['data']

    def part(index: Any) -> np.ndarray:  # a slice of each axis
        first, end, _ = index[0].indices(rows)
        at = places.index(first // each) * each
        return own[at : at + end - first, *index[1:]]

    return jax.make_array_from_callback((rows, *own.shape[1:]), sharding, part)


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """A tree of whole arrays, the same in every process, to every device of the mesh."""
    sharding = replicated(mesh)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(put, tree)


def put_like(value: np.ndarray, like: jax.Array) -> jax.Array:
    """A whole array, the same in every process, placed as `like` is."""
    return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])


def split_batch(clip: Clip, parts: int, mesh: Mesh) -> Clip:
    """[b, ...] to [parts, b / parts, ...] inside a program, without moving data between devices.

    Part i holds the examples j with j % parts == i, so that every device gives its share to each.
    """

    def split(x: jax.Array) -> jax.Array:
        x = x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)
        axes = (None, 'data', 'context') if x.ndim > 2 else (None, 'data')
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.tree.map(split, clip)
