"""Tables of programs compiled for TPUs, from the figures that `perceiver-io compile` writes.

    perceiver-io compile --topology=v5e:16x16 --config=kinetics700 --json=runs/tpus/v5e.json
    python benchmarks/tpus.py runs/tpus/*.json

Prints a row for each program, whether the gradient is summed as it should be, and how the training
steps would scale on paper (`perceiver_io/training/weak_scaling.py` has the assumptions).
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from perceiver_io.distributed.chips import chip_of
from perceiver_io.distributed.hlo import Collective
from perceiver_io.training.compilation import Compiled, roofline
from perceiver_io.training.weak_scaling import weak_scaling

CHIPS = (8, 16, 32, 64, 128, 256)


class Figures(NamedTuple):
    """A program, and what it was compiled for."""

    topology: str
    dtype: str
    program: Compiled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', type=pathlib.Path)
    args = parser.parse_args()
    found = [figures for path in args.files for figures in read(path)]
    found.sort(key=lambda each: (each.topology, each.dtype, each.program.name))
    print('\n'.join(compilations(found)))
    steps = [each for each in found if each.program.name == 'train']
    if steps:
        print()
        print('\n'.join(scaling(steps)))


def read(path: pathlib.Path) -> list[Figures]:
    """The programs in a file of `perceiver-io compile --json`."""
    content = json.loads(path.read_text())
    programs = []
    for values in content['programs']:
        del values['roofline']
        values['collectives'] = tuple(Collective(**each) for each in values['collectives'])
        programs.append(Figures(content['topology'], content['dtype'], Compiled(**values)))
    return programs


def compilations(found: Sequence[Figures]) -> list[str]:
    """A table with a row for each program."""
    lines = [
        '| chips | program | dtype | batch | memory, GB | GFLOP | traffic, GB '
        '| largest collective | next | all-gathers | time at least, ms |',
        '| --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- | ---: | ---: |',
    ]
    for topology, dtype, program in found:
        chip = chip_of(topology)
        bound = roofline(program, chip, dtype)
        sizes = sorted(program.collectives, key=lambda each: -each.bytes)
        largest, following = ([describe(each) for each in sizes[:2]] + ['none'] * 2)[:2]
        gathers = sum(each.kind == 'all-gather' for each in sizes)
        cells = [
            topology,
            program.name,
            dtype,
            str(program.examples or ''),
            f'{program.peak / 1e9:.2f} of {chip.memory / 1e9:.0f}',
            f'{program.flops / 1e9:.0f}' if program.examples else '',
            f'{program.traffic / 1e9:.2f}',
            largest,
            following,
            str(gathers),
            f'{bound.total * 1e3:.1f}' if program.examples else '',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return lines


def describe(collective: Collective) -> str:
    return (
        f'{collective.kind}, {collective.dtype}, {collective.bytes / 1e6:.2f} MB, '
        f'{collective.times} times'
    )


def scaling(steps: Sequence[Figures]) -> list[str]:
    """A table of training steps on numbers of chips: milliseconds, examples/s, efficiency."""
    head = ' | '.join(f'{count} chips' for count in CHIPS)
    lines = [
        f'| chip | dtype | examples a chip | {head} |',
        f'| --- | --- | ---: | {" | ".join("---:" for _ in CHIPS)} |',
    ]
    for topology, dtype, program in steps:
        cells = [
            f'{scaled.seconds * 1e3:.1f} ms, {scaled.rate:,.0f}/s, {scaled.efficiency:.0%}'
            for scaled in weak_scaling(program, chip_of(topology), dtype, CHIPS)
        ]
        name = topology.partition(':')[0]
        each = program.examples // program.chips
        lines.append(f'| {name} | {dtype} | {each} | {" | ".join(cells)} |')
    return lines


if __name__ == '__main__':
    main()
