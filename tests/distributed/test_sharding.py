"""Placements: one file of rules, and batches that fit the mesh."""

import ast
import pathlib
import types

import jax
import numpy as np
import pytest

from perceiver_io.core.clip import Clip
from perceiver_io.core.errors import UserError
from perceiver_io.distributed import sharding
from perceiver_io.distributed.sharding import MeshConfig

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / 'perceiver_io'


def names_in(path: pathlib.Path) -> set[str]:
    """All names, attributes and imports that a file mentions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return found


def test_only_one_file_names_partition_specs():
    named = {'PartitionSpec', 'NamedSharding', 'with_sharding_constraint'}
    using = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob('*.py') if names_in(path) & named
    }
    assert using == {'distributed/sharding.py'}


@pytest.mark.parametrize(
    'sizes, message',
    [
        ({'accumulate': 3}, 'batch_size=8 must be divisible by 12, .*times accumulate=3'),
        ({'batch_size': 6, 'key': 'training.x'}, 'training.x=6 must be divisible by 4, the 4'),
        ({'frames': 5}, 'frames=5 must be divisible by the mesh axis context=2'),
    ],
)
def test_batches_that_do_not_fit_the_mesh(sizes, message):
    mesh = types.SimpleNamespace(shape={'data': 4, 'context': 2})
    good = {'batch_size': 8, 'frames': 4}
    sharding.check_divisible(mesh, accumulate=2, **good)

    with pytest.raises(UserError, match=message):
        sharding.check_divisible(mesh, **good | sizes)


def test_a_mesh_uses_all_devices():
    with pytest.raises(UserError, match='their product must be'):
        sharding.make_mesh(MeshConfig(data=3, context=2), jax.devices()[:1])


def chips(width: int, height: int) -> list:
    """Stand-ins for the chips of a TPU v6e slice, with what a mesh asks of a device."""
    return [
        types.SimpleNamespace(
            id=y * width + x,
            platform='tpu',
            device_kind='TPU v6 lite',
            coords=(x, y, 0),
            core_on_chip=0,
            process_index=0,
            slice_index=0,
        )
        for y in range(height)
        for x in range(width)
    ]


@pytest.mark.parametrize('context', [2, 4, 8])
def test_an_axis_of_a_grid_of_chips_can_be_split(monkeypatch, context):
    """An axis of the 16 x 16 chips then serves both axes of the mesh."""
    monkeypatch.setattr(sharding, 'Mesh', lambda grid, names, axis_types: grid)
    grid = sharding.make_mesh(MeshConfig(context=context), chips(16, 16))
    assert grid.shape == (256 // context, context)
    assert len({chip.id for chip in grid.flat}) == 256
    for row in grid:  # a clip's chips lie on one line
        assert min(len({chip.coords[axis] for chip in row}) for axis in (0, 1)) == 1


def test_plain_attention_is_not_divided_along_context():
    def mesh(context):
        return types.SimpleNamespace(shape={'data': 2, 'context': context})

    sharding.check_attention(mesh(1), 'plain')
    sharding.check_attention(mesh(4), 'exact')
    with pytest.raises(UserError, match='mesh.context=4 needs model.attention=exact'):
        sharding.check_attention(mesh(4), 'plain')


def test_clips_keep_their_values_and_modalities():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    clip = Clip(np.arange(2 * 4 * 3).reshape(2, 4, 1, 1, 3), None, np.array([1, 2]))
    placed = sharding.put_clip(clip, mesh)
    np.testing.assert_array_equal(placed.video, clip.video)
    np.testing.assert_array_equal(placed.label, clip.label)
    assert placed.audio is None


@pytest.mark.parametrize(
    'processes, places',
    [
        ([[0], [0], [1], [1]], [0, 1]),
        ([[1], [0], [0], [1]], [1, 2]),  # a ring
        ([[1, 1], [2, 3], [0, 0], [3, 2]], [2]),
        ([[0, 1], [2, 3], [2, 3], [0, 1]], [0, 3]),  # two processes share a clip
    ],
)
def test_a_process_has_the_rows_that_its_devices_hold(processes, places):
    devices = np.array(
        [[types.SimpleNamespace(process_index=index) for index in row] for row in processes]
    )
    mesh = types.SimpleNamespace(devices=devices, shape={'data': 4, 'context': len(processes[0])})
    rows = [2 * place + row for place in places for row in (0, 1)]
    assert sharding.own_rows(mesh, 8) == rows
    found = [sharding.own_rows(mesh, 8, process) for process in range(np.max(processes) + 1)]
    readers = [len(set(row)) for row in processes for _ in (0, 1)]
    assert np.bincount(np.concatenate(found).astype(int)).tolist() == readers


def test_parts_of_a_batch_take_turns():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    clip = Clip(np.zeros((6, 2, 1, 1, 3)), None, np.arange(6))
    parts = jax.jit(lambda clip: sharding.split_batch(clip, 3, mesh))(clip)
    assert parts.video.shape == (3, 2, 2, 1, 1, 3)
    np.testing.assert_array_equal(parts.label, [[0, 3], [1, 4], [2, 5]])
