"""PSNR against compression: a model for the clips of the demo with 128 to 8 latents.

    perceiver-io sweep bottleneck --output=sweeps/bottleneck

No value here is in the paper.
"""

from typing import Any


def get_sweep() -> dict[str, Any]:
    return dict(
        base='demo',
        set={
            # Wider latents than the demo's, so that few of them can do something.
            'model.latent_channels': 128,
            'model.self_attention_heads': 4,
            'model.label_query_channels': 64,
            'model.video_bands': 8,
            'model.video_max_resolution': None,
            # The grid of the video latents follows their number, and each reads several tokens.
            'initialization.video_grid': None,
            'initialization.time_ends': False,
            'initialization.time_spread': 1.0,
            'initialization.tokens_per_latent': 1.0,
            'initialization.audio_share': 0.44,
            'loss.label': 0.1,
            'optimizer.learning_rate': 0.02,
            'training.batch_size': 32,
            'training.steps': 200,
            'training.log_every': 20,
            'training.eval_every': 0,
            'training.checkpoint_every': 100,
        },
        grid={'model.latents': (128, 64, 32, 16, 8)},
    )
