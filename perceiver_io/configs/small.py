"""Your own clips on one GPU, or a CPU in a day or two: 112 x 112 pixels, 16 frames, 20,000 steps.

    perceiver-io train --config=small --workdir=DIR --config.data.path=FOLDER

FOLDER holds media files and a labels.csv, `file,label[,split]`. The windows are those of the paper
at half the height and width, and the network has half its channels. docs/benchmarks.md has the time
and memory of a step.

The keys are those of `kinetics700.py`. No value here is in the paper. This config has not been
trained to the end: its results are not known.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from perceiver_io.configs import kinetics700


def get_config() -> ConfigDict:
    config = kinetics700.get_config()

    config.model.update(
        dict(
            height=112,
            width=112,
            classes=placeholder(int),  # as many as the CSV has
            latents=256,
            latent_channels=256,
            self_attends=6,
            decoder_channels=256,
            label_query_channels=256,
        )
    )
    config.data.update(dict(source='folder', workers=2))
    config.sampling.update(dict(video_queries=512, audio_queries=256))
    # Small batches and few steps learn little of the label with the paper's weights.
    config.loss.update(dict(video=1.0, audio=1.0, label=0.03))
    config.optimizer.update(
        dict(name='adamw', learning_rate=5e-4, warmup=0.02, flat=0.5, b2=0.98, clip_norm=1.0)
    )
    config.training.update(
        dict(
            steps=20_000,
            batch_size=16,
            log_every=10,
            eval_every=1000,
            eval_clips=64,
            eval_batch_size=4,
            checkpoint_every=200,
        )
    )
    return config
