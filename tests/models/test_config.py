"""The config: its parts, its errors."""

import dataclasses

import numpy as np
import pytest

import perceiver_io
from perceiver_io.core.errors import UserError
from perceiver_io.models.config import ModalitiesConfig
from perceiver_io.network.config import ComputeConfig, NetworkConfig


@pytest.mark.parametrize(
    'values, message',
    [
        ({'height': 225}, r'height=225 must be divisible by patch=4'),
        ({'audio_patch': 7}, 'audio_patch=7'),
        ({'self_attention_heads': 7}, 'latent_channels=512 must be divisible by'),
        ({'cross_attention_heads': 3}, 'token_channels=704 must be divisible by'),
        ({'modalities': ('label',)}, 'with video or audio'),
        ({'modalities': ('video', 'depth')}, 'must be some of'),
        ({'latents': 0}, 'latents=0 must be at least 1'),
        ({'gelu': 'relu'}, "gelu='relu'"),
        ({'position_rounding': 'tpu'}, "position_rounding='tpu'"),
        ({'dtype': 'float16'}, "dtype='float16'"),
        ({'dropout': 1.0}, 'dropout=1.0'),
        ({'latents': 'many'}, "latents='many' must be of type int"),
        ({'latents': True}, 'latents=True must be of type int'),
        ({'remat': 1}, 'remat=1 must be of type bool'),
        ({'video_patch': (4, 4)}, 'must have 3 values'),
        ({'decode_memory': -1}, 'decode_memory=-1 must not be negative'),
        ({'attention': 'fast'}, "attention='fast' must be 'exact' or 'plain'"),
        ({'attention_dropout': 0.1}, "attention_dropout=0.1 needs attention='plain'"),
        ({'blocks': 200, 'self_attends': 8}, 'must be at most 1000'),
    ],
)
def test_config_errors(values, message):
    with pytest.raises(ValueError, match=message):
        perceiver_io.AutoencoderConfig(**values)


def test_the_parts_make_up_the_whole():
    config = perceiver_io.AutoencoderConfig(latents=392)
    names = [field.name for field in dataclasses.fields(config)]
    parts = [
        field.name
        for part in (ModalitiesConfig, NetworkConfig, ComputeConfig)
        for field in dataclasses.fields(part)
    ]
    assert names == [*parts, 'initialization']  # which no part depends on
    assert all(
        isinstance(config, part) for part in (ModalitiesConfig, NetworkConfig, ComputeConfig)
    )


def test_values_of_near_types_are_converted():
    config = perceiver_io.AutoencoderConfig(
        modalities=['video'], latents=np.int64(8), dropout=0, video_patch=[1, 4, 4]
    )
    assert config == perceiver_io.AutoencoderConfig(modalities=('video',), latents=8)
    assert hash(config) == hash(perceiver_io.AutoencoderConfig(modalities=('video',), latents=8))
    assert type(config.latents) is int and type(config.dropout) is float


def test_none_as_the_command_line_reads_it_for_a_tuple():
    config = perceiver_io.AutoencoderConfig(video_max_resolution=(None,))
    assert config.video_max_resolution is None
    with pytest.raises(UserError, match='video_patch'):  # which is never None
        perceiver_io.AutoencoderConfig(video_patch=(None,))


def test_decode_memory_by_platform():
    config = perceiver_io.AutoencoderConfig()
    assert config.for_platform('cpu').decode_memory < config.for_platform('tpu').decode_memory
    own = dataclasses.replace(config, decode_memory=1000)
    assert own.for_platform('tpu') == own


def test_compression_of_the_paper():
    for latents, compression in ((784, 88), (392, 176), (196, 352)):
        assert perceiver_io.AutoencoderConfig(latents=latents).compression == compression
