"""Reads golden files: outputs of the original code, for weights and inputs made from a seed.

Their format is told in docs/golden.md. Any file of the format will do; the folder is that of the
environment variable PERCEIVER_IO_GOLDEN, or tests/golden.
"""

import json
import os
import pathlib
import zlib

import numpy as np

import perceiver_io

FOLDER = pathlib.Path(
    os.environ.get('PERCEIVER_IO_GOLDEN') or pathlib.Path(__file__).resolve().parents[1] / 'golden'
)


class GoldenFile:
    """One file: its config, inputs, parameters and the original's answers."""

    def __init__(self, path: pathlib.Path):
        with np.load(path, allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.sizes = json.loads(str(self.arrays['config']))
        self.seed = int(self.arrays['seed'])
        self.batch = int(self.arrays['batch'])

    def __getattr__(self, name: str):
        """An array of the file, None where it has none of that name."""
        return self.arrays.get(name)

    @property
    def config(self) -> perceiver_io.AutoencoderConfig:
        sizes = self.sizes
        return perceiver_io.AutoencoderConfig(
            frames=sizes['frames'],
            height=sizes['height'],
            width=sizes['width'],
            samples_per_frame=sizes['samples_per_frame'],
            audio_patch=sizes['audio_patch'],
            classes=sizes['classes'],
            video_bands=sizes['image_bands'],
            audio_bands=sizes['audio_bands'],
            video_max_resolution=tuple(sizes['image_max_resolution']),
            latents=sizes['latents'],
            latent_channels=sizes['latent_channels'],
            blocks=sizes['blocks'],
            self_attends=sizes['self_attends'],
            self_attention_heads=sizes['self_heads'],
            cross_attention_heads=sizes['cross_heads'],
            decoder_heads=sizes['decoder_heads'],
            self_attention_widening=sizes['self_widening'],
            cross_attention_widening=sizes['cross_widening'],
            decoder_channels=sizes['decoder_channels'],
            label_query_channels=sizes['label_query_channels'],
            input_padding=sizes['min_padding'],
        )

    @property
    def label_given(self) -> bool:
        return self.sizes['label_mask_prob'] == 0.0

    def params(self, shapes: dict) -> dict:
        """Weights of the seed for a tree of shapes {module: {name: array-like}}."""
        return random_parameters(shapes, self.seed)

    def inputs(self) -> dict[str, np.ndarray]:
        """video, audio and label of the seed."""
        config = self.config
        rng = np.random.Generator(np.random.PCG64(self.seed))
        video = rng.random((self.batch, *config.video_shape, 3), dtype=np.float32)
        audio = 2 * rng.random((self.batch, config.samples, 1), dtype=np.float32) - 1
        label = rng.integers(0, config.classes, self.batch)
        return {'video': video, 'audio': audio, 'label': label}


def random_parameters(shapes: dict, seed: int) -> dict:
    """The golden files' weights for a tree of shapes {module: {name: array-like}}."""
    return {
        module: {
            name: random_parameter(f'{module}/{name}', leaf.shape, seed)
            for name, leaf in leaves.items()
        }
        for module, leaves in shapes.items()
    }


def random_parameter(path: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The golden files' weight for `module/name`, float32."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(path.encode()) + seed))
    values = rng.standard_normal(shape).astype(np.float32)
    name = path.rsplit('/', 1)[1]
    if name == 'w':
        return values / np.sqrt(np.float32(shape[0]))
    if name == 'scale':
        return 1 + np.float32(0.1) * values
    return np.float32(0.5 if name == 'pos_embs' else 0.1) * values
