"""Compiles a config's programs for TPUs that are not here, and estimates their speed.

    perceiver-io compile --topology=v5e:16x16 --config=kinetics700 [--config.group.key=value ...]

Needs libtpu (pip install "jax[tpu]") but no TPU; every program takes minutes. For
initialization, the training step and the evaluation step it prints what a chip holds in memory,
its arithmetic and memory traffic with loops counted, every communication between chips, and a
lower bound of the time.
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from perceiver_io import cli
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from perceiver_io.distributed.chips import Chip
    from perceiver_io.training.compilation import Compiled, Roofline

# The host is used as a CPU, libtpu asks no metadata server which TPU it is, and several of these
# programs can run at a time.
_ENVIRONMENT = {
    'JAX_PLATFORMS': 'cpu',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
}
PROGRAMS = ('init', 'train', 'eval')
CLIPS_PER_CORE = 100  # read in a second, from prepared datasets; docs/input_pipeline.md


def main(arguments: Sequence[str]) -> int:
    for name, value in _ENVIRONMENT.items():  # before JAX looks for devices
        os.environ.setdefault(name, value)
    from perceiver_io.training.compilation import TopologyCompiler, roofline
    from perceiver_io.training.start import experiment_of

    cli.no_arguments(arguments)
    values = flags.FLAGS
    if values.config is None or not values.topology:
        raise UsageError('both --topology=v5e:16x16, or another, and --config=NAME are needed')
    unknown = set(values.programs) - set(PROGRAMS)
    if unknown or not values.programs:
        raise UsageError(
            f'--programs={",".join(values.programs)}: give some of {",".join(PROGRAMS)}'
        )
    if values.json:  # before the minutes of compiling
        files.make_folder(pathlib.Path(values.json).parent, '--json')
    experiment = experiment_of(values.config.to_dict())
    compiler = TopologyCompiler(experiment, values.topology, values.programs)
    mesh = ' x '.join(f'{name} {size}' for name, size in compiler.mesh.shape.items())
    print(
        f'{values.topology}: {compiler.mesh.size} chips of {compiler.chip.memory / 1e9:.0f} GB, '
        f'mesh {mesh}; {experiment.model.dtype}, {experiment.model.attention}'
    )
    print(_hosts(compiler.mesh, experiment.training.batch_size))
    found = []
    for name in values.programs:
        print(f'compiling {name} ...', file=sys.stderr)
        program = compiler.compile(name)
        bound = roofline(program, compiler.chip, experiment.model.dtype)
        print('\n'.join(_lines(program, bound, compiler.chip)), flush=True)
        found.append(dataclasses.asdict(program) | {'roofline': dataclasses.asdict(bound)})
    print(_ASSUMPTIONS)
    if values.json:
        content = {'topology': values.topology, 'dtype': experiment.model.dtype}
        files.write_text(
            pathlib.Path(values.json), json.dumps(content | {'programs': found}, indent=2)
        )
    return os.EX_OK


_ASSUMPTIONS = """
Assumptions: published peaks of the chip; arithmetic counts matrix products alone, and a float32
product as six passes of bfloat16; memory traffic charges every instruction its operands in whole,
but for slices, so that it is an upper bound; communication does not overlap. The largest batch
supposes that intermediate values grow in proportion to the batch. No speed was measured."""


def _hosts(mesh: 'Mesh', batch_size: int) -> str:
    """What the processes of a pod read, one on each host."""
    from perceiver_io.distributed import sharding

    hosts = {device.process_index for device in mesh.devices.flat}
    rows = [len(sharding.own_rows(mesh, batch_size, host)) for host in sorted(hosts)]
    return (
        f'{len(hosts)} hosts of {mesh.size // len(hosts)} chips; each reads {max(rows)} of the '
        f'{batch_size} examples of a training batch, and each example is read by '
        f'{sum(rows) / batch_size:g}'
    )


def _lines(program: 'Compiled', bound: 'Roofline', chip: 'Chip') -> list[str]:
    gigabytes = {
        'arguments': program.arguments,
        'temporaries': program.temporaries,
        'peak': program.peak,
    }
    memory = ', '.join(f'{name} {size / 1e9:.3f} GB' for name, size in gigabytes.items())
    lines = [
        '',
        f'{program.name}: compiled in {program.seconds:.0f} s'
        + (f', batch {program.examples}' if program.examples else ''),
        f'  memory of a chip     {memory} of {chip.memory / 1e9:.0f} GB',
        f'  products of a chip   {program.flops / 1e9:.1f} GFLOP',
        f'  memory traffic       at most {program.traffic / 1e9:.2f} GB',
    ]
    counts: collections.Counter[tuple[str, str, int]] = collections.Counter()
    for collective in program.collectives:
        counts[collective.kind, collective.dtype, collective.bytes] += collective.times
    for (kind, dtype, size), times in sorted(counts.items(), key=lambda item: -item[0][2]):
        lines.append(f'  {kind:20} {times} x {size / 1e6:.4f} MB {dtype}')
    if not counts:
        lines.append('  communication        none')
    if program.examples:
        rate = program.examples / bound.total
        lines += [
            f'  time at least        {bound.total * 1e3:.2f} ms: the larger of arithmetic '
            f'{bound.arithmetic * 1e3:.2f} ms and memory {bound.memory * 1e3:.2f} ms, plus links '
            f'{bound.links * 1e3:.2f} ms',
            f'  examples/s at most   {rate:,.0f}, which the input has to deliver: about '
            f'{math.ceil(rate / CLIPS_PER_CORE):,} cores at {CLIPS_PER_CORE} examples/s each '
            '(docs/input_pipeline.md)',
            f'  largest batch        about {program.largest_batch(chip)}',
        ]
    return lines


def define_flags() -> None:
    config_flags.DEFINE_config_file(
        'config', None, f'Config: a path, or one of {", ".join(cli.shipped_configs())}.'
    )
    flags.DEFINE_string('topology', None, 'Chips and their grid as libtpu names them: v5e:16x16.')
    flags.DEFINE_list('programs', list(PROGRAMS), 'What to compile.')
    flags.DEFINE_string('json', None, 'A file for the figures, with every communication.')


if __name__ == '__main__':
    cli.run(main, define_flags)
