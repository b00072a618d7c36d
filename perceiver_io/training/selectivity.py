"""How selective a model is: what its attention is spread over, and what its output depends on.

Not in the paper. A model whose attention reads everything alike answers every query alike: with the
mean colour, and with silence. These numbers show when that ends, long before the PSNR does.
"""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Clip
from perceiver_io.core.picks import spread
from perceiver_io.evaluation.results import ShownWindow
from perceiver_io.models.autoencoder import Autoencoder

_LATENTS = 32  # measured, evenly spaced by their index; these bound the memory and the time
_QUERIES = 64  # of each modality


def measure(
    model: Autoencoder, params: hk.Params, windows: Sequence[ShownWindow]
) -> dict[str, float]:
    """Means over windows, of medians over latents or queries.

    Args:
        model: the model.
        params: its parameters, as arrays of this process.
        windows: windows and their reconstructions, at least one.

    Returns:
        `tokens_per_latent`: how many tokens of all modalities a latent reads, as the perplexity of
            its attention weights: exp of their entropy, from 1 to the number of tokens.
        `latents_per_video_query`, `latents_per_audio_query`, `latents_per_label_query`: how many
            latents a query attends to, likewise.
        `video_variation`, `audio_variation`: the variance of the output over the pixels or samples
            of a window, divided by that of the original: 0 if the output does not depend on the
            query, 1 if it varies as much as the original.
    """
    found: dict[str, list[float]] = {}
    for window in windows:
        for name, value in (
            _attention(model, params, window.original) | _variation(window)
        ).items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _attention(model: Autoencoder, params: hk.Params, window: Clip) -> dict[str, float]:
    config = model.config
    given = {
        modality: getattr(window, modality)[None]
        for modality in ('video', 'audio')
        if modality in config.modalities
    }
    some = jnp.array(spread(range(config.latents), _LATENTS))
    read = jax.device_get(model.encoder_attention(params, some, **given))
    video, audio = (
        jnp.array(spread(range(count), _QUERIES))
        for count in (np.prod(config.video_shape), config.samples // config.audio_patch)
    )
    latents = model.encode(params, **given)
    asked = jax.device_get(
        model.decoder_attention(params, latents, video_index=video, audio_index=audio)
    )
    return {'tokens_per_latent': _median_perplexity(np.concatenate([*read.values()], axis=-1))} | {
        f'latents_per_{name}_query': _median_perplexity(shares) for name, shares in asked.items()
    }


def _median_perplexity(shares: np.ndarray) -> float:
    """Of attention weights whose last axis adds up to 1."""
    entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-30)), axis=-1)
    return float(np.median(np.exp(entropy)))


def _variation(window: ShownWindow) -> dict[str, float]:
    found = {}
    for name in ('video', 'audio'):
        original = getattr(window.original, name)
        if original is not None and _variance(original) > 0:  # not of silence, or of one colour
            output = getattr(window.reconstruction, name)
            found[f'{name}_variation'] = _variance(output) / _variance(original)
    return found


def _variance(values: np.ndarray) -> float:
    """Over all axes but the last, the channels; sum over the channels."""
    return float(values.reshape(-1, values.shape[-1]).astype(np.float64).var(axis=0).sum())
