"""Memory of a long clip divided over several devices: a training step and an evaluation step.

    python benchmarks/context.py                                 # 128 frames of 224 x 224

One example, 401,408 video tokens and 6.4 million pixels for 128 frames, on a mesh of 1, 2, 4 and 8
devices along `context`. The devices are a CPU's, divided by XLA, and nothing runs: the numbers are
those of XLA's analysis of the compiled programs. Compilers for accelerators keep other temporaries;
`perceiver-io compile` shows those of TPUs.

The floor is what the same program takes for a clip of 8 frames of 32 x 32: gradients, updates, the
latents' activations and what else every device holds whole. `share` is what is above the floor,
relative to one device.
"""

import argparse
import pathlib
import sys
import time

import jax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure
from perceiver_io.configs import kinetics700
from perceiver_io.distributed import sharding
from perceiver_io.distributed.hlo import read_program
from perceiver_io.sweeps.points import overridden
from perceiver_io.training.programs import Programs
from perceiver_io.training.start import experiment_of

PROGRAMS = ('train', 'evaluate')
SIZE = 224  # pixels
SMALL = (8, 32)  # frames and pixels of the clip whose memory is the floor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=128)
    parser.add_argument('--contexts', type=int, nargs='+', default=[1, 2, 4, 8])
    parser.add_argument('--programs', nargs='+', choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument('--output', default='runs/benchmarks/context.json')
    args = parser.parse_args()
    jax.config.update('jax_num_cpu_devices', max(args.contexts))

    rows = []
    for name in args.programs:
        floor = measure.memory(compile_program(name, *SMALL, 1))['temporary_mb']
        alone = None
        for context in args.contexts:
            start = time.perf_counter()
            compiled = compile_program(name, args.frames, SIZE, context)
            collectives = read_program(compiled.as_text()).collectives
            memory = measure.memory(compiled)
            above = memory['temporary_mb'] - floor
            alone = above if context == 1 else alone
            rows.append(
                {'program': name, 'context': context}
                | memory
                | {
                    'floor_mb': floor,
                    'share': above / alone if alone else None,
                    'all_gathers': sum(each.kind == 'all-gather' for each in collectives),
                    'largest_collective_mb': max((c.bytes for c in collectives), default=0) / 1e6,
                    'seconds_to_compile': round(time.perf_counter() - start),
                }
            )
            print(rows[-1], flush=True)
    measure.report(args.output, rows)


def compile_program(name: str, frames: int, size: int, context: int) -> jax.stages.Compiled:
    """A program of the paper's config for one example of so many frames of size x size pixels."""
    keys = {
        'model.frames': frames,
        'model.height': size,
        'model.width': size,
        'mesh.context': context,
        'training.batch_size': 1,
        'training.eval_batch_size': 1,
    }
    experiment = experiment_of(overridden(kinetics700.get_config().to_dict(), keys))
    mesh = sharding.make_mesh(experiment.mesh, jax.devices()[:context])
    program = getattr(Programs(experiment, mesh, 'cpu'), name)()
    return program.jitted.lower(*program.arguments).compile()


if __name__ == '__main__':
    main()
