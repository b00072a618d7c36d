"""The points of a sweep, and the configs that they make."""

import runpy

import pytest

from perceiver_io.core.errors import UsageError
from perceiver_io.sweeps import points

FILE = dict(
    base='demo',
    set={'training.steps': 9},
    grid={'model.latents': (8, 4), 'loss.label': (0.1, 1.0)},
    also=[{'loss.video': 2.0}],
)


def test_points_are_all_combinations_and_those_beside_them():
    found = points.make_sweep('mine', FILE, {'training.seed': 3}).points
    assert [point.title for point in found] == [
        'latents=8, label=0.1',
        'latents=8, label=1.0',
        'latents=4, label=0.1',
        'latents=4, label=1.0',
        'video=2.0',
    ]
    assert found[1].values == {
        'training.steps': 9,
        'training.seed': 3,
        'model.latents': 8,
        'loss.label': 1.0,
    }
    assert [point.index for point in found] == [0, 1, 2, 3, 4]
    assert found[1].folder == '01_latents_8_label_1.0'
    assert len({point.folder for point in found}) == 5


def test_values_given_replace_those_of_the_file_but_not_what_varies():
    assert points.make_sweep('mine', FILE, {'training.steps': 2}).points[4].values == {
        'training.steps': 2,
        'loss.video': 2.0,
    }
    with pytest.raises(UsageError, match='differ by this key'):
        points.make_sweep('mine', FILE, {'loss.video': 1.0})


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'grids': {}}, "unknown key 'grids'"),
        ({'grid': {'model.latents': 8}}, 'tuple of values for model.latents'),
        ({'grid': {}, 'also': []}, 'no points'),
    ],
)
def test_wrong_sweeps_are_named(changes, said):
    with pytest.raises(UsageError, match=said):
        points.make_sweep('mine', FILE | changes, {})


def test_a_config_file_holds_the_overridden_values(tmp_path):
    base = {'init_from': '', 'model': {'latents': 64, 'grid': (1, 6), 'classes': None}}
    config = points.overridden(base, {'model.latents': 8, 'init_from': "it's"})
    path = tmp_path / 'config.py'
    path.write_text(points.config_file("name='\\x'", config))
    read = runpy.run_path(str(path))['get_config']().to_dict()
    assert read == config | {'model': {'latents': 8, 'grid': (1, 6), 'classes': None}}
    assert read['init_from'] == "it's" and base['model']['latents'] == 64
    for key in ('model.latent', 'model', 'latents'):
        with pytest.raises(UsageError, match=f"no key '{key}'"):
            points.overridden(base, {key: 1})
