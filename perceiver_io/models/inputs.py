"""Checks of the model's inputs, with one line for each mistake.

Shapes and dtypes are always checked: under `jax.jit` that happens while tracing and costs nothing
at run time. Values are checked where they are concrete, outside of `jit`: a range of video or audio
takes one pass over the array and, on an accelerator, one transfer of two numbers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Clip
from perceiver_io.core.errors import UserError
from perceiver_io.models.config import AutoencoderConfig

# How far floats may lie outside of [0, 1] or [-1, 1]: resampling and lossy audio codecs overshoot.
TOLERANCE = 0.25

_RANGES = {'video': (0.0, 1.0), 'audio': (-1.0, 1.0)}
_INTEGERS = {'video': np.uint8, 'audio': np.int16}


def check_clip(config: AutoencoderConfig, video: Any, audio: Any, label: Any) -> Clip:
    """The clip without modalities that the model does not have; uint8 and int16 stay what they are.

    Args:
        config: of the model.
        video: [b, t, h, w, c], uint8 or floats in [0, 1].
        audio: [b, s, 1], int16 or floats in [-1, 1].
        label: int [b], or None.

    Raises:
        UserError: a modality is missing, or has another type, shape or range.
    """
    shapes = {'video': (*config.video_shape, config.channels), 'audio': (config.samples, 1)}
    given = {'video': video, 'audio': audio, 'label': label}
    given = {modality: given[modality] for modality in config.modalities}
    for modality, shape in shapes.items():
        if modality in given:
            _check_media(modality, given[modality], shape)
    if given.get('label') is not None:
        _check_integers('label', label, f'class indices [b] below {config.classes}')
    batches = {modality: len(value) for modality, value in given.items() if value is not None}
    if len(set(batches.values())) > 1:
        raise UserError(f'video, audio and label have different batch sizes: {batches}')
    return Clip(**given)


def check_label(config: AutoencoderConfig, label: Any, masked: Any) -> None:
    """Raises UserError where a visible label is no class, or `masked` is not bool [b]."""
    if masked is not None:
        check_masked('label', masked, len(label))
    if _is_concrete(label) and (masked is None or _is_concrete(masked)):
        visible = np.asarray(label)
        visible = visible if masked is None else visible[~np.asarray(masked)]
        _check_range('label', visible, config.classes, 'or hide unknown ones by label_masked')


def check_masked(modality: str, masked: Any, batch: int) -> None:
    """Raises UserError where `masked` is not bool [b]."""
    if not hasattr(masked, 'dtype') or masked.dtype != bool or masked.shape != (batch,):
        raise UserError(f'{modality}_masked must be a bool array ({batch},), one for each clip')


def check_queries(
    config: AutoencoderConfig, latents: Any, video_index: Any, audio_index: Any, kept: int = 0
) -> None:
    """Raises UserError where latents are not [b, n, d], or indices are not int [q] in the range.

    n is `kept`, or all that the config has.
    """
    expected = (kept or config.latents, config.latent_channels)
    shape = getattr(latents, 'shape', None)
    if shape is None or len(shape) != 3 or shape[1:] != expected:
        got = type(latents).__name__ if shape is None else shape
        raise UserError(f'latents {got} must be an array [b, n, d] with (n, d)={expected}')
    points = int(np.prod(config.video_shape)), config.audio_patches
    for name, index, count in zip(
        ('video_index', 'audio_index'), (video_index, audio_index), points
    ):
        if index is not None:
            _check_integers(name, index, f'indices [q] below {count}')
            if _is_concrete(index):
                _check_range(name, np.asarray(index), count, 'the number of queries there are')


def _check_media(modality: str, value: Any, shape: tuple[int, ...]) -> None:
    expected = f'[b, {", ".join(map(str, shape))}]'
    if value is None:
        raise UserError(f'{modality}=None: this model has {modality}, give an array {expected}')
    if not hasattr(value, 'dtype'):
        raise UserError(f'{modality} must be an array {expected}, not a {type(value).__name__}')
    if len(value.shape) != len(shape) + 1 or value.shape[1:] != shape:
        raise UserError(f'{modality} {value.shape} must be {expected}, as the config says')
    low, high = _RANGES[modality]
    integers = np.dtype(_INTEGERS[modality])
    if value.dtype == integers:
        return
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise UserError(
            f'{modality} of {value.dtype} must be {integers}, or floats in [{low:g}, {high:g}]'
        )
    if _is_concrete(value) and value.size:
        least, most = _extent(value)
        if not (low - TOLERANCE <= least and most <= high + TOLERANCE):  # also where it is NaN
            raise UserError(
                f'{modality} has values from {least:g} to {most:g} and must be in '
                f'[{low:g}, {high:g}]: scale or clip it, or give {integers}'
            )


def _check_integers(name: str, value: Any, what: str) -> None:
    if not hasattr(value, 'dtype'):
        raise UserError(f'{name} must be an integer array, {what}, not a {type(value).__name__}')
    if not jnp.issubdtype(value.dtype, jnp.integer) or len(value.shape) != 1:
        raise UserError(f'{name} {value.dtype} {value.shape} must be integers: {what}')


def _check_range(name: str, values: np.ndarray, count: int, hint: str) -> None:
    wrong = values[(values < 0) | (values >= count)]
    if wrong.size:
        raise UserError(f'{name} has {wrong[0]}, which must be from 0 to {count - 1}: {hint}')


def _is_concrete(value: Any) -> bool:
    """Whether the values can be read here: not while tracing, nor on another process's devices."""
    if isinstance(value, jax.Array):
        return not isinstance(value, jax.core.Tracer) and value.is_fully_addressable
    return isinstance(value, np.ndarray)


def _extent(value: Any) -> tuple[float, float]:
    if isinstance(value, np.ndarray):
        return float(value.min()), float(value.max())
    with jax.ensure_compile_time_eval():  # the array may be a constant inside of a `jit`
        least, most = jax.device_get((value.min(), value.max()))
    return float(least), float(most)
