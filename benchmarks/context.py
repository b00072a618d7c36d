"""Memory of a long clip divided over several devices: a training step and an evaluation step.

    python benchmarks/context.py                                 # 128 frames of 224 x 224

One example, 401,408 video tokens and 6.4 million pixels for 128 frames, on a mesh of 1, 2, 4 and 8
devices along `context`. The devices are a CPU's, divided by XLA, and nothing runs: the numbers are
those of XLA's analysis of the compiled programs. Compilers for accelerators keep other temporaries;
`perceiver-io compile` shows those of TPUs.
"""

import argparse
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure
from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.distributed import sharding
from perceiver_io.distributed.hlo import read_program
from perceiver_io.evaluation.evaluate import measures_for
from perceiver_io.evaluation.rows import statistics_of
from perceiver_io.evaluation.step import Places, eval_program
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer
from perceiver_io.training.steps import SamplingConfig, TrainState, make_train_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=128)
    parser.add_argument('--contexts', type=int, nargs='+', default=[1, 2, 4, 8])
    parser.add_argument('--programs', nargs='+', choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument('--output', default='runs/benchmarks/context.json')
    args = parser.parse_args()
    jax.config.update('jax_num_cpu_devices', max(args.contexts))
    config = AutoencoderConfig(frames=args.frames).for_platform('cpu')

    rows = []
    for program in args.programs:
        for context in args.contexts:
            start = time.perf_counter()
            compiled = PROGRAMS[program](config, context)
            collectives = read_program(compiled.as_text()).collectives
            rows.append(
                {'program': program, 'context': context}
                | measure.memory(compiled)
                | {
                    'all_gathers': sum(each.kind == 'all-gather' for each in collectives),
                    'largest_collective_mb': max((c.bytes for c in collectives), default=0) / 1e6,
                    'seconds_to_compile': round(time.perf_counter() - start),
                }
            )
            print(rows[-1], flush=True)
    measure.report(args.output, rows)


def training_step(config: AutoencoderConfig, context: int) -> jax.stages.Compiled:
    model, mesh = Autoencoder(config), mesh_of(context)
    optimizer = make_optimizer(OptimizerConfig(), 1000)
    params = shapes(config)
    number: Any = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(number, params, jax.eval_shape(optimizer.init, params))
    step = make_train_step(model, optimizer, LossWeights(), SamplingConfig(), seed=0, mesh=mesh)
    return step.lower(state, clip(config)).compile()


def evaluation_step(config: AutoencoderConfig, context: int) -> jax.stages.Compiled:
    spec = ClipSpec(config.frames, config.height, config.width)
    measures = measures_for(config.modalities, spec, LossWeights())
    program = eval_program(Autoencoder(config), statistics_of(*measures), mesh_of(context))
    index = jax.ShapeDtypeStruct((1,), jnp.int32)
    places = Places(jax.ShapeDtypeStruct((1,), jnp.bool_), index, index)
    return program.lower(shapes(config), clip(config), places).compile()


PROGRAMS = {'train': training_step, 'evaluate': evaluation_step}


def mesh_of(context: int) -> jax.sharding.Mesh:
    return sharding.make_mesh(sharding.MeshConfig(1, context), jax.devices()[:context])


def shapes(config: AutoencoderConfig) -> Any:
    return jax.eval_shape(Autoencoder(config).init, jax.random.key(0))


def clip(config: AutoencoderConfig) -> Clip:
    return Clip(
        video=jax.ShapeDtypeStruct((1, *config.video_shape, config.channels), jnp.uint8),
        audio=jax.ShapeDtypeStruct((1, config.samples, 1), jnp.int16),
        label=jax.ShapeDtypeStruct((1,), jnp.int32),
    )


if __name__ == '__main__':
    main()
