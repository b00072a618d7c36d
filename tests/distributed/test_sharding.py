"""Placements: one file of rules, and batches that fit the mesh."""

import ast
import pathlib

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
        ({'batch_size': 3, 'accumulate': 2}, 'batch_size=3 must be divisible by 2.*accumulate=2'),
        ({'batch_size': 0, 'accumulate': 1}, None),
    ],
)
def test_batches_that_do_not_fit_the_mesh(sizes, message):
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    if message is None:
        sharding.check_divisible(mesh, frames=4, **sizes)
        return
    with pytest.raises(UserError, match=message):
        sharding.check_divisible(mesh, frames=4, **sizes)


def test_a_mesh_uses_all_devices():
    with pytest.raises(UserError, match='their product must be'):
        sharding.make_mesh(MeshConfig(data=3, context=2), jax.devices()[:1])


def test_clips_keep_their_values_and_modalities():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    clip = Clip(np.arange(2 * 4 * 3).reshape(2, 4, 1, 1, 3), None, np.array([1, 2]))
    placed = sharding.put_clip(clip, mesh)
    np.testing.assert_array_equal(placed.video, clip.video)
    np.testing.assert_array_equal(placed.label, clip.label)
    assert placed.audio is None


def test_parts_of_a_batch_take_turns():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    clip = Clip(np.zeros((6, 2, 1, 1, 3)), None, np.arange(6))
    parts = jax.jit(lambda clip: sharding.split_batch(clip, 3, mesh))(clip)
    assert parts.video.shape == (3, 2, 2, 1, 1, 3)
    np.testing.assert_array_equal(parts.label, [[0, 3], [1, 4], [2, 5]])
