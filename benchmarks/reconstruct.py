"""Reconstruction of one clip: exact attention against plain attention.

    python benchmarks/reconstruct.py

Compares, in turn in one process:
  exact              encodes once and decodes all chunks in one program; float32 and bfloat16
  plain, once        the same with attention='plain'
  plain, notebook    as the released notebook does it: a call of a jitted function applies the whole
                     model for each of 128 chunks. One chunk is timed, and multiplied by 128.
"""

import argparse
import dataclasses
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure  # noqa: E402
from perceiver_io import Autoencoder, AutoencoderConfig

NOTEBOOK_CHUNKS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=3, help='timed runs of each program')
    parser.add_argument('--frames', type=int, default=16)
    parser.add_argument('--size', type=int, default=224, help='height and width')
    parser.add_argument('--latents', type=int, default=784)
    parser.add_argument('--output', default='runs/benchmarks/reconstruct.json')
    args = parser.parse_args()

    config = AutoencoderConfig(
        frames=args.frames, height=args.size, width=args.size, latents=args.latents
    )
    params = random_params(config)
    rng = np.random.default_rng(0)
    clip = dict(
        video=rng.random((1, *config.video_shape, 3), np.float32),
        audio=2 * rng.random((1, config.samples, 1), np.float32) - 1,
    )

    programs = {}
    for attention in ('exact', 'plain'):
        for dtype in ('float32', 'bfloat16'):
            model = Autoencoder(dataclasses.replace(config, attention=attention, dtype=dtype))
            name = 'exact' if attention == 'exact' else 'plain, once'
            programs[f'{name} {dtype}'] = whole_clip(model).lower(params, clip).compile()
            if attention == 'plain' and dtype == 'float32':
                notebook = one_chunk(model).lower(params, clip, 0).compile()
                programs['plain, notebook float32'] = notebook

    def run(name, *more):
        return functools.partial(programs[name], params, clip, *more)

    times = measure.interleaved(
        {name: run(name, 5) if 'notebook' in name else run(name) for name in programs}, args.runs
    )
    notebook = times['plain, notebook float32']
    times['plain, notebook float32'] = measure.Times(*[NOTEBOOK_CHUNKS * time for time in notebook])

    rows = []
    for name, program in programs.items():
        exact = times['exact ' + name.split()[-1]]
        rows.append(
            {
                'way': name,
                **times[name]._asdict(),
                'extrapolated': 'notebook' in name,
                'exact is faster by': times[name].seconds / exact.seconds,
                'in cpu': times[name].cpu_seconds / exact.cpu_seconds,
                **measure.memory(program),
            }
        )
    outputs = {
        name: program(params, clip) for name, program in programs.items() if 'notebook' not in name
    }
    reference = outputs['exact float32']
    differences = jax.tree.map(
        lambda one, other: float(jnp.abs(one - other).max()),
        reference,
        outputs['plain, once float32'],
    )
    measure.report(
        args.output,
        rows,
        psnr_bfloat16_video=psnr(outputs['exact bfloat16'].video, reference.video),
        psnr_bfloat16_audio=psnr(outputs['exact bfloat16'].audio, reference.audio),
        psnr_bfloat16_video_plain=psnr(outputs['plain, once bfloat16'].video, reference.video),
        largest_difference_from_plain=max(differences),
        deviation_of_video=float(reference.video.std()),
        deviation_of_audio=float(reference.audio.std()),
    )


def random_params(config: AutoencoderConfig) -> dict:
    """Fresh parameters plus noise of 0.1 in biases, scales and offsets, so that none is trivial."""
    params = Autoencoder(config).init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(
        tree,
        [
            leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32) if leaf.ndim == 1 else leaf
            for leaf in leaves
        ],
    )


def whole_clip(model: Autoencoder):
    return jax.jit(lambda params, clip: model.reconstruct(params, **clip))


def one_chunk(model: Autoencoder):
    """The whole model for one of the notebook's chunks: pixels, audio patches and label."""
    pixels = -(-np.prod(model.config.video_shape) // NOTEBOOK_CHUNKS)
    patches = -(-model.config.audio_patches // NOTEBOOK_CHUNKS)

    @jax.jit
    def apply(params, clip, chunk):
        latents = model.encode(params, **clip)
        return model.decode(
            params,
            latents,
            video_index=chunk * pixels + jnp.arange(pixels),
            audio_index=chunk * patches + jnp.arange(patches),
        )

    return apply


def psnr(ours: jax.Array, reference: jax.Array) -> float:
    """dB, for values with peak 1."""
    return -10 * float(np.log10(jnp.square(ours - reference).mean()))


if __name__ == '__main__':
    main()
