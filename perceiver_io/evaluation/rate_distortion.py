"""Rate-distortion points in the form of CompressAI's JSON files, for its plotting tool."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

LATENT_BITS = 32  # float32


def bits_per_pixel(model: Mapping[str, Any]) -> float:
    """Bits of a window's latents, which hold its audio too, for each pixel of its video."""
    pixels = model['frames'] * model['height'] * model['width']
    return model['latents'] * model['latent_channels'] * LATENT_BITS / pixels


def to_json(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The models that have video, nothing hidden, by ascending rate; None if there are none.

    Args:
        rows: of `table5.results`.
    """
    rows = [row for row in rows if row.get('video_psnr') is not None and not row.get('hidden')]
    rows = sorted(rows, key=lambda row: bits_per_pixel(row['model']))
    if not rows:
        return None
    points: dict[str, list[float | None]] = {
        'bpp': [bits_per_pixel(row['model']) for row in rows],
        'psnr-rgb': [_finite(row['video_psnr']) for row in rows],
    }
    if all(row.get('ssim') is not None for row in rows):
        points['ssim-rgb'] = [_finite(row['ssim']) for row in rows]
    values = {
        'name': 'Perceiver IO',
        'description': 'Multimodal autoencoder. bpp: bits of the latents, as float32 and without '
        'entropy coding, for each pixel; the latents hold the audio too. psnr-rgb: mean of the '
        "clips' PSNR in dB.",
        'results': points,
    }
    return json.dumps(values, indent=2) + '\n'


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
