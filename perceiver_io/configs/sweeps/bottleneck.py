"""PSNR against compression: the demo with 128 to 8 latents.

    perceiver-io sweep bottleneck --output=sweeps/bottleneck

No value here is in the paper.
"""

from typing import Any


def get_sweep() -> dict[str, Any]:
    return dict(
        base='demo',
        set={
            # The grid of the video latents follows their number.
            'initialization.video_grid': None,
            'training.steps': 200,
            'training.log_every': 20,
            'training.eval_every': 0,
            'training.checkpoint_every': 100,
        },
        grid={'model.latents': (128, 64, 32, 16, 8)},
    )
