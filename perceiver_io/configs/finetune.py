"""Fine-tuning on a folder of your own, from any checkpoint.

    perceiver-io train --config=finetune --workdir=DIR --config.init_from=X --config.data.path=Y

Y is a folder of media files and a labels.csv, `file,label[,split]`. The model is that of the
checkpoint, with as many classes as the CSV has. What is new in it is listed, and is trained alone
for the first steps: --config.optimizer.head_first=0 trains everything from the start, and as many
as there are steps trains nothing else.

The keys are those of `kinetics700.py`. No value here is in the paper, apart from those marked
[paper]. The released weights have not been fine-tuned with it: its results are not known.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from perceiver_io.configs import kinetics700


def get_config() -> ConfigDict:
    config = kinetics700.get_config()
    config.init_from = ''  # yours: whatever --checkpoint accepts

    # None: as in the checkpoint; the classes: as many as the CSV has.
    config.model = ConfigDict(
        {key: placeholder(config.model.get_type(key)) for key in config.model}
    )
    config.data.update(dict(source='folder', frame_rate=placeholder(int), workers=2))
    config.loss.update(dict(label=1.0))  # [paper] its variant for accuracy
    config.optimizer.update(
        dict(
            # A tenth of the paper's rate, so that the parameters that are kept stay useful; AdamW,
            # because batches are small; a tenth of the steps for the new parameters.
            name='adamw',
            learning_rate=1e-4,
            warmup=0.05,
            flat=0.0,
            weight_decay=0.01,
            clip_norm=1.0,
            head_first=200,
        )
    )
    config.training.update(
        dict(
            steps=2000,
            batch_size=32,
            log_every=10,
            eval_every=500,
            eval_clips=0,
            eval_batch_size=8,
            checkpoint_every=100,
        )
    )
    return config
