"""A small autoencoder on rendered clips: minutes on two CPU cores, nothing to download.

    perceiver-io train --config=demo --workdir=runs/demo

The paper's setting, shrunk: a shape moves and hums, six classes, 0.16 s of 48 x 48 pixels and
audio. Initialization and optimizer are not those of the paper, see docs/training.md.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from perceiver_io.configs import kinetics700


def get_config() -> ConfigDict:
    config = kinetics700.get_config()

    config.model.update(
        dict(
            frames=4,
            height=48,
            width=48,
            classes=placeholder(int),  # as many as the clips have
            initialization='placed',
            # Up to 12 periods over the width: an attention that follows the pixels of a patch.
            video_bands=12,
            video_max_resolution=(4, 24, 24),
            # Bands of 1 to 32 periods in a window: up to 200 Hz, where the clips hum.
            audio_patch=64,
            audio_bands=32,
            audio_max_resolution=64,
            latents=316,
            latent_channels=48,
            self_attends=2,
            self_attention_heads=4,
            decoder_channels=128,
            # The widest query, and with it the decoder's hidden layer.
            label_query_channels=192,
        )
    )
    # 288 latents for video, and 28 for audio. Each patch has a latent that reads its first frame
    # and one that reads its last, so that the frames between them are interpolated.
    config.initialization.update(
        dict(
            video_grid=(2, 12, 12),
            audio_share=0.089,
            time_ends=True,
            time_spread=0.7,
            tokens_per_latent=0.5,
        )
    )
    config.data.update(dict(source='rendered', workers=0, threads=2))
    config.sampling.update(dict(video_queries=192, audio_queries=120))
    # With the paper's weights, these steps are too few to learn the label.
    config.loss.update(dict(video=4.0, audio=4.5, label=0.2))
    config.optimizer.update(
        dict(
            name='muon',
            learning_rate=0.01,
            adam_learning_rate=2e-3,
            warmup=0.05,
            flat=0.4,
            b1=0.95,
            b2=0.98,
            clip_norm=1.0,
        )
    )
    config.training.update(
        dict(
            steps=1200,
            batch_size=8,
            log_every=50,
            eval_every=600,
            eval_clips=0,
            eval_batch_size=20,
            checkpoint_every=600,
        )
    )
    return config
