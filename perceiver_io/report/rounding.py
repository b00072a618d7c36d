"""How much the reconstruction loses if the latents are stored as float16."""

import haiku as hk
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Clip
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.report.content import Half, video_psnr


def measure(model: Autoencoder, params: hk.Params, windows: list[Clip]) -> Half | None:
    """Decodes whole windows from float32 latents and from the same rounded to float16.

    Args:
        model: that has video.
        params: of it.
        windows: video uint8 [t, h, w, 3], audio int16 [s, 1].

    Returns:
        None without windows.
    """
    values: list[list[float]] = [[], []]
    for window in windows:
        audio = None if window.audio is None else window.audio[None]
        latents = model.in_float32().encode(params, video=window.video[None], audio=audio)
        for found, kept in zip(values, (latents, latents.astype(jnp.float16))):
            video = model.decode_clip(params, kept.astype(jnp.float32)).video
            pixels = np.rint(np.clip(np.asarray(video[0]), 0, 1) * 255).astype(np.uint8)
            found.append(video_psnr(window.video, pixels))
    if not windows:
        return None
    return Half(windows, float(np.mean(values[0])), float(np.mean(values[1])))
