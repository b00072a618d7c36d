"""The points of a sweep: a grid over keys of a config, and single points beside it.

A sweep is a Python file with `get_sweep() -> dict`, whose keys are

| key | |
| --- | --- |
| base | the config that all points start from: a name or a path |
| set | {key: value} that all points have; may be left out |
| grid | {key: values}: the points are all combinations, the last key changing fastest |
| also | [{key: value}]: points beside the grid |

and whose keys of the config are written 'group.key'.
"""

import copy
import dataclasses
import difflib
import itertools
import pathlib
import re
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from perceiver_io.core.errors import UsageError

_SHIPPED = pathlib.Path(__file__).resolve().parents[1] / 'configs' / 'sweeps'
_KEYS = ('base', 'set', 'grid', 'also')


@dataclasses.dataclass(frozen=True)
class Point:
    """One training of a sweep.

    Attributes:
        index: from 0.
        varied: the keys by which points differ, with their values here.
        values: these, and the keys that all points set.
    """

    index: int
    varied: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def title(self) -> str:
        """'latents=64', with the last part of each key."""
        parts = [f'{key.rpartition(".")[2]}={value}' for key, value in self.varied.items()]
        return ', '.join(parts) or 'the base config'

    @property
    def folder(self) -> str:
        """The name of its folder: '01_latents_64'."""
        name = re.sub(r'[^A-Za-z0-9.]+', '_', self.title).strip('_.')
        return f'{self.index:02d}_{name[:100]}'


@dataclasses.dataclass(frozen=True)
class Sweep:
    """All points, and the name or path of the config that they start from."""

    name: str
    base: str
    points: Sequence[Point]


def shipped_sweeps() -> list[str]:
    """The names that `perceiver-io sweep` takes besides paths."""
    return sorted(path.stem for path in _SHIPPED.glob('[a-z]*.py'))


def read_sweep(name: str, given: Mapping[str, Any]) -> Sweep:
    """Reads a sweep.

    Args:
        name: of a shipped sweep, such as 'bottleneck' or 'sweeps/bottleneck', or a path.
        given: keys that all points have instead of what the file says.

    Raises:
        UsageError: there is no such sweep, or the file says nothing that can be swept.
    """
    stem = name.removeprefix('sweeps/')
    path = _SHIPPED / f'{stem}.py' if stem in shipped_sweeps() else pathlib.Path(name)
    if not path.is_file():
        raise UsageError(
            f'{name}: there is no such sweep; give the path of one, or the name of one that is '
            f'included: {", ".join(shipped_sweeps())}'
        )
    try:
        values = runpy.run_path(str(path))['get_sweep']()
    except Exception as error:  # of the user's code
        raise UsageError(
            f'the sweep {path} cannot be used: {type(error).__name__}: {error}'
        ) from error
    return make_sweep(path.stem, values, given)


def make_sweep(name: str, values: Mapping[str, Any], given: Mapping[str, Any]) -> Sweep:
    """The sweep that `get_sweep` of a file describes; see `read_sweep`."""
    unknown = sorted(set(values) - set(_KEYS))
    if unknown or 'base' not in values:
        problem = f'has the unknown key {unknown[0]!r}' if unknown else "lacks 'base'"
        raise UsageError(f'the sweep {name} {problem}: its keys are {", ".join(_KEYS)}')
    grid = dict(values.get('grid', {}))
    wrong = [key for key, choices in grid.items() if not isinstance(choices, tuple | list)]
    if wrong:
        raise UsageError(f'the sweep {name} needs a tuple of values for {wrong[0]} of its grid')
    also = list(values.get('also', ()))
    varying = set(grid).union(*also)
    for key in given:
        if key in varying:
            raise UsageError(f'--set={key}: the points of the sweep {name} differ by this key')
    combinations = [dict(zip(grid, chosen)) for chosen in itertools.product(*grid.values()) if grid]
    common = {**values.get('set', {}), **given}
    points = tuple(
        Point(index, varied, {**common, **varied})
        for index, varied in enumerate([*combinations, *also])
    )
    if not points:
        raise UsageError(f'the sweep {name} has no points: give it a grid')
    return Sweep(name, values['base'], points)


def overridden(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A config as nested dictionaries, with other values of some keys.

    Raises:
        UsageError: the config has no such key.
    """
    result = copy.deepcopy(dict(config))
    known = _flat(result)
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f'; did you mean {near[0]}?' if near else ''
            raise UsageError(f'the config has no key {key!r}{hint}')
        group, _, last = key.rpartition('.')
        node = result
        for part in group.split('.') if group else ():
            node = node[part]
        node[last] = value
    return result


def _flat(config: Mapping[str, Any], prefix: str = '') -> list[str]:
    keys = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            keys += _flat(value, f'{prefix}{key}.')
        else:
            keys.append(f'{prefix}{key}')
    return keys


def config_file(title: str, config: Mapping[str, Any]) -> str:
    """The source of a config file with these values, for `perceiver-io train --config=`."""
    lines = [
        f'"""The complete config of a point of a sweep: {title}."""'.replace('\\', ''),
        '',
        'from ml_collections import ConfigDict',
        '',
        '',
        'def get_config() -> ConfigDict:',
        '    return ConfigDict(',
        '        {',
    ]
    lines += [f'            {key!r}: {value!r},' for key, value in config.items()]
    return '\n'.join([*lines, '        }', '    )', ''])
