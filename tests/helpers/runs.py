"""Runs that nobody trained, clips that a program wrote, and programs run as users run them."""

import csv
import os
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import av
import jax
import jax.numpy as jnp
from helpers.golden_files import random_parameters

from perceiver_io import eval as eval_program
from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.data import rendered
from perceiver_io.data.config import DataConfig
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.optimizer import make_optimizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATE = 5  # frames per second: real clips are long, and a few frames show what happens
VAL_CLIPS = 7


class Played(NamedTuple):
    """What a media file plays."""

    frames: int
    seconds: float  # of audio
    channels: int
    height: int
    width: int


def make_run(folder: pathlib.Path, seed: int = 0, **model: Any) -> pathlib.Path:
    """A run folder with random parameters, saved at step 3; `model` overrides sizes."""
    sizes = dict(
        frames=4,
        height=16,
        width=16,
        samples_per_frame=1600,
        classes=6,
        video_bands=4,
        audio_bands=4,
        latents=8,
        latent_channels=16,
        self_attends=1,
        self_attention_heads=2,
        decoder_channels=16,
        label_query_channels=16,
    )
    experiment = Experiment(
        model=AutoencoderConfig(**sizes | model),
        data=DataConfig(
            frame_rate=RATE,
            cache=str(folder.parent / 'cache'),
            render_train=1,
            render_val=VAL_CLIPS,
            render_size=32,
            render_seconds=2.0,
        ),
    )
    shapes = jax.eval_shape(Autoencoder(experiment.model).init, jax.random.key(0))
    params = jax.tree.map(jnp.asarray, random_parameters(shapes, seed))
    optimizer = make_optimizer(experiment.optimizer, 10)
    run_folder.check_run(folder, experiment)
    run_folder.start_run(folder, experiment, rendered.CLASSES)
    store = CheckpointStore(folder)
    store.save(3, params, {'step': jnp.int32(3), 'optimizer': optimizer.init(params)})
    store.close()
    return folder


def evaluate_run(run: pathlib.Path, out: pathlib.Path, **options: Any) -> dict[str, Any]:
    """Evaluates one checkpoint; returns what is in `table5.json`."""
    return eval_program.evaluate_checkpoints([run], out, **options)[0]


def render_clips(run: pathlib.Path) -> list[pathlib.Path]:
    """The validation clips of a run of `make_run`: seven MP4 files of two seconds."""
    config = run_folder.read_experiment(run).data
    root = rendered.render_folder(
        config.cache,
        seed=config.render_seed,
        train_clips=1,
        val_clips=VAL_CLIPS,
        size=32,
        seconds=2.0,
        progress=False,
    )
    return sorted((root / 'val').iterdir())


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def play(path: str | os.PathLike) -> Played:
    """Decodes a whole file."""
    with av.open(f'file:{path}') as container:
        size = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video=0))
    sound = channels = 0
    with av.open(f'file:{path}') as container:
        if container.streams.audio:
            channels = container.streams.audio[0].channels
            sound = sum(f.samples / f.sample_rate for f in container.decode(audio=0))
    return Played(frames, sound, channels, size.height, size.width)


def python(*arguments: Any, timeout: float = 120) -> subprocess.CompletedProcess:
    """Runs a program of the project from the root of the repository."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {'JAX_PLATFORMS': 'cpu'},
        timeout=timeout,
    )
