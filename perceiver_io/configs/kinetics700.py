"""Perceiver IO, the multimodal autoencoder on Kinetics-700-2020, as in the paper.

arXiv 2107.14795, section 4.3, "Table 5" of its first version. Every key says where it comes from:
[paper], [code] (the released notebook and modules), or [choice] where neither says.

    perceiver-io prepare --source=KINETICS --dataset_dir=DATASETS
    perceiver-io train --config=kinetics700 --workdir=DIR --config.data.path=DATASETS

Table 5 at 88x: audio PSNR 26.97, video PSNR 24.37, top-1 10.2%. For 176x and 352x set
--config.model.latents=392 or 196; for accuracy (the paper's 45%) --config.loss.label=1.0.
This config has not been trained to the end with this code: its results are not known.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.init_from = ''  # [choice] a checkpoint to start from; '' for none

    config.model = ConfigDict()
    config.model.modalities = ('video', 'audio', 'label')  # [paper]
    config.model.frames = 16  # [paper]
    config.model.height = 224  # [paper]
    config.model.width = 224  # [paper]
    config.model.channels = 3  # [paper]
    config.model.samples_per_frame = 1920  # [paper] 48 kHz at 25 frames/s
    config.model.classes = 700  # [paper]
    config.model.video_patch = (1, 4, 4)  # [paper]
    config.model.audio_patch = 16  # [paper]
    config.model.video_bands = 32  # [code] the paper says 64; the released weights have 32
    config.model.audio_bands = 192  # [paper]
    config.model.video_max_resolution = placeholder(tuple)  # [code] the token grid, (16, 56, 56)
    config.model.audio_max_resolution = placeholder(int)  # [code] the samples, 30,720
    config.model.position_rounding = 'xla'  # [code]
    config.model.latents = 784  # [paper] 88x; 392 is 176x, 196 is 352x
    config.model.latent_channels = 512  # [paper]
    config.model.blocks = 1  # [code]
    config.model.self_attends = 8  # [code]
    config.model.self_attention_heads = 8  # [code]
    config.model.cross_attention_heads = 1  # [code]
    config.model.decoder_heads = 1  # [code]
    config.model.self_attention_widening = 1  # [code]
    config.model.cross_attention_widening = 1  # [code]
    config.model.decoder_channels = 512  # [code]
    config.model.label_query_channels = 1024  # [code]
    config.model.input_padding = 4  # [code]
    config.model.query_padding = 2  # [code]
    config.model.gelu = 'tanh'  # [code]
    config.model.dropout = 0.0  # [code]
    config.model.attention_dropout = 0.0  # [code]
    config.model.attention = 'exact'  # [choice] the same function as 'plain', with less arithmetic
    config.model.remat = False  # [choice]
    config.model.decode_memory = 0  # [choice] bytes; 0: a default by backend
    config.model.dtype = 'float32'  # [choice] the code says nothing; 'bfloat16' is faster
    config.model.initialization = 'original'  # [code] or 'placed', not in the paper

    # [not in the paper] Of model.initialization='placed', and without effect on 'original'.
    config.initialization = ConfigDict()
    config.initialization.audio_share = 0.25
    config.initialization.video_grid = placeholder(tuple)  # solved for
    config.initialization.time_ends = False
    config.initialization.spread = 1.0
    config.initialization.time_spread = 1.0
    config.initialization.tokens_per_latent = 1.0
    config.initialization.audio_tokens_per_latent = 1.0
    config.initialization.latents_per_query = 2.0
    config.initialization.self_attends = 0.3
    config.initialization.readouts = 0.1
    config.initialization.shuffle = False
    config.initialization.video_mean = 0.45  # of the training pixels

    config.data = ConfigDict()
    config.data.source = 'tfds'  # [choice]
    config.data.path = ''  # yours
    config.data.dataset = 'kinetics700_2020'  # [choice] for source='tfds'
    config.data.csv = 'labels.csv'  # [choice] for source='folder'
    config.data.train_split = 'train'  # [paper]
    config.data.eval_split = 'val'  # [paper]
    config.data.classes = ()  # [paper] all
    config.data.fraction = 1.0  # [paper]
    config.data.missing_audio = 'silence'  # [choice]
    config.data.frame_rate = 25  # [paper]
    config.data.windows_per_read = 1  # [choice] more: fewer reads, see docs/data.md
    config.data.eval_windows = 1  # [choice] the centre of each clip
    config.data.flip = False  # [choice] the paper is silent
    config.data.colour_jitter = 0.0  # [choice] the paper is silent
    config.data.workers = 8  # [choice]
    config.data.threads = 4  # [choice]
    # [choice] What source='rendered' renders, and where it is kept (None: ~/.cache/perceiver_io).
    config.data.cache = placeholder(str)
    config.data.render_seed = 0
    config.data.render_train = 300
    config.data.render_val = 60
    config.data.render_size = 64
    config.data.render_seconds = 2.0
    config.data.render_phase = 'random'

    config.sampling = ConfigDict()
    config.sampling.video_queries = 512  # [paper]
    config.sampling.audio_queries = 512  # [paper] read as patches; 32 if it means 512 samples
    config.sampling.label_masked = 0.5  # [paper]
    config.sampling.video_masked = 0.0  # [not in the paper]
    config.sampling.audio_masked = 0.0  # [not in the paper]
    config.sampling.latents_kept = ()  # [not in the paper] all

    config.loss = ConfigDict()
    config.loss.video = 0.03  # [paper]
    config.loss.audio = 1.0  # [paper]
    config.loss.label = 0.0001  # [paper] 1.0 for accuracy

    config.optimizer = ConfigDict()
    config.optimizer.name = 'lamb'  # [choice] LAMB elsewhere in the paper
    config.optimizer.learning_rate = 1e-3  # [paper]
    config.optimizer.adam_learning_rate = 0.0  # [not in the paper] for name='muon'; 0: the same
    config.optimizer.warmup = 0.0  # [choice] elsewhere 1,000 steps (language) or 200 (GLUE)
    config.optimizer.flat = 0.5  # [choice] flat, then a cosine, as for ImageNet
    config.optimizer.b1 = 0.9  # [choice]
    config.optimizer.b2 = 0.999  # [choice]
    config.optimizer.weight_decay = 0.0  # [choice] 0.1 for ImageNet
    config.optimizer.clip_norm = 10.0  # [choice] as for ImageNet
    config.optimizer.head_first = 0  # [choice] for runs with init_from

    config.training = ConfigDict()
    config.training.steps = 500_000  # [choice]
    config.training.batch_size = 1024  # [paper]
    config.training.accumulate = 1  # [choice]
    config.training.seed = 0  # [choice]
    config.training.log_every = 50  # [choice]
    config.training.eval_every = 10_000  # [choice]
    config.training.eval_clips = 2048  # [choice]
    config.training.eval_batch_size = 64  # [choice]
    config.training.checkpoint_every = 2000  # [choice]
    config.training.max_bad_steps = 10  # [choice]
    config.training.keep = 2  # [choice]

    config.mesh = ConfigDict()
    config.mesh.data = 0  # [choice] all devices that context leaves
    config.mesh.context = 1  # [choice]
    return config
