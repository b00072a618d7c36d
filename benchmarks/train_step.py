"""A training step (loss, gradients, update): exact attention against plain attention.

    python benchmarks/train_step.py

For 88x, 176x and 352x and several batch sizes: seconds, examples/s, XLA's temporary memory, and the
arithmetic of an example, counted in XLA's program for CPUs and by hand.
"""

import argparse
import dataclasses
import pathlib
import sys

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure  # noqa: E402
from perceiver_io import Autoencoder, AutoencoderConfig, Clip
from perceiver_io.distributed import sharding
from perceiver_io.metrics import losses
from perceiver_io.training import steps
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer

SAMPLING = steps.SamplingConfig()  # 512 pixels, 512 audio patches, half of the labels hidden


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=3, help='timed runs of each step')
    parser.add_argument('--batch', type=int, nargs='+', default=[1, 4, 8])
    parser.add_argument('--latents', type=int, nargs='+', default=[784, 392, 196])
    parser.add_argument('--frames', type=int, default=16)
    parser.add_argument('--size', type=int, default=224, help='height and width')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'])
    parser.add_argument('--remat', action='store_true', help='remat for exact attention')
    parser.add_argument(
        '--plain-gigabytes',
        type=float,
        default=12,
        help='plain steps with more temporary memory are not run',
    )
    parser.add_argument('--output', default='runs/benchmarks/train_step.json')
    args = parser.parse_args()

    peak = measure.matmul_peak(args.dtype) if jax.default_backend() != 'cpu' else None
    rows = []
    for latents in args.latents:
        for batch in args.batch:
            config = AutoencoderConfig(
                frames=args.frames,
                height=args.size,
                width=args.size,
                latents=latents,
                dtype=args.dtype,
            )
            rows += compare(config, batch, args, peak)
    measure.report(args.output, rows, matmul_peak_tflops=peak and peak / 1e12)


def compare(
    config: AutoencoderConfig, batch: int, args: argparse.Namespace, peak: float | None
) -> list[dict]:
    """One row of results for each kind of attention."""
    configs = {
        'exact': dataclasses.replace(config, remat=args.remat),
        'plain': dataclasses.replace(config, attention='plain'),
    }
    runs, rows = {}, {}
    for name, one in configs.items():
        step, state, clip = prepare(one, batch)
        compiled = step.lower(state, clip).compile()
        memory = measure.memory(compiled)['temporary_mb']
        if name == 'exact' or memory < 1000 * args.plain_gigabytes:
            runs[name] = Repeated(compiled, state, clip)
        rows[name] = {
            'latents': config.latents,
            'batch': batch,
            'path': name,
            'seconds': None,
            'cpu_seconds': None,
            'examples/s': None,
            'temporary_mb': memory,
            'GFLOP/example': program_flops(one, batch) / batch / 1e9,
            'by hand': hand_count(one, batch) / batch / 1e9,
        }
    times = measure.interleaved(runs, args.runs)
    for name, time in times.items():
        rows[name] |= time._asdict() | {'examples/s': batch / time.seconds}
        if peak:
            rows[name]['of peak'] = rows[name]['GFLOP/example'] * 1e9 * batch / time.seconds / peak
    if 'plain' in times:
        rows['exact']['faster by'] = times['plain'].seconds / times['exact'].seconds
        rows['exact']['in cpu'] = times['plain'].cpu_seconds / times['exact'].cpu_seconds
    rows['exact']['of the memory'] = rows['exact']['temporary_mb'] / rows['plain']['temporary_mb']
    return list(rows.values())


class Repeated:
    """Calls a step on the state that its last call returned, as the step donates its state."""

    def __init__(self, step, state, clip):
        self.step, self.state, self.clip = step, state, clip

    def __call__(self):
        self.state, metrics = self.step(self.state, self.clip)
        return metrics


def prepare(config: AutoencoderConfig, batch: int) -> tuple:
    """The training step of train.py, a fresh state, and a batch of noise."""
    mesh = sharding.make_mesh(sharding.MeshConfig(data=1), jax.devices()[:1])
    model, optimizer = Autoencoder(config), make_optimizer(OptimizerConfig(), 1000)
    step = steps.make_train_step(
        model, optimizer, losses.LossWeights(), SAMPLING, seed=0, mesh=mesh
    )
    rng = np.random.default_rng(0)
    clip = Clip(
        video=rng.integers(0, 256, (batch, *config.video_shape, 3), np.uint8),
        audio=rng.integers(-32768, 32768, (batch, config.samples, 1), np.int16),
        label=rng.integers(0, config.classes, batch, np.int32),
    )
    return step, steps.init_state(model, optimizer, 0, mesh), sharding.put_clip(clip, mesh)


def program_flops(config: AutoencoderConfig, batch: int) -> float:
    """FLOPs of the matrix products in XLA's program for one CPU, with loops counted."""
    with jax.default_device(jax.devices('cpu')[0]):
        model = Autoencoder(config)
        loss = steps.make_loss(model, losses.LossWeights(), SAMPLING)
        params = jax.eval_shape(model.init, jax.random.key(0))
        clip = Clip(
            *[
                jax.ShapeDtypeStruct((batch, *shape), np.float32)
                for shape in ((*config.video_shape, 3), (config.samples, 1))
            ],
            label=jax.ShapeDtypeStruct((batch,), np.int32),
        )
        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
        return measure.matmul_flops(
            gradient.lower(params, clip, 0, jax.ShapeDtypeStruct((), np.int32)).compile()
        )


def hand_count(config: AutoencoderConfig, batch: int) -> float:
    """Multiplications and additions of a step's matrix products, from the sizes alone.

    A product is computed once in the forward and twice in the backward pass. With exact attention,
    the batch shares the projections of both cross-attentions' queries; of the tokens only products
    with their data and (audio) with the position table are left; all logits are computed twice.
    """
    n, d, width = config.latents, config.latent_channels, config.token_channels
    video_tokens, audio_tokens = config.video_tokens_position.size, config.audio_patches
    queries = (
        min(SAMPLING.video_queries, config.video_query_position.size)
        + min(SAMPLING.audio_queries, config.audio_patches)
        + 1
    )
    q_width, out = config.query_channels, config.decoder_channels
    exact = config.attention == 'exact'

    self_attend = 3 * 6 * n * d * d + 2 * 3 * n * n * d + (n * n * d if exact else 0)
    after_cross = 3 * (n * width * d + 2 * n * d * d)
    latent_queries = 3 * n * d * width
    if exact:
        values = config.channels * np.prod(config.video_patch)
        per_token = video_tokens * values + audio_tokens * config.audio_patch
        audio_table = audio_tokens * config.audio_position.channels
        read = 5 * n * per_token + 2 * n * audio_table + 3 * n * width * width + after_cross
        read_shared = latent_queries + 3 * n * width * width + 2 * n * audio_table
    else:
        tokens = video_tokens + audio_tokens + 1
        read = 3 * 2 * tokens * width * width + 3 * 2 * n * tokens * width + after_cross
        read += latent_queries
        read_shared = 0
    memory = 3 * 2 * n * d * d
    query = 3 * queries * q_width * d
    answer = 3 * queries * (2 * n * d + d * q_width + q_width * q_width)
    if not exact:  # the exact path folds what follows the GELU into the readouts, but for the label
        answer += 3 * queries * (q_width * q_width + q_width * out)
    per_example = config.blocks * config.self_attends * self_attend + read + memory + answer
    shared = read_shared + (query if exact else batch * query)
    return 2.0 * (batch * per_example + shared)


if __name__ == '__main__':
    main()
