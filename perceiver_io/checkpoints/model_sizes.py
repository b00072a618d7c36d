"""The sizes of a model, read off its arrays, and the shapes that a model of some sizes has."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax

from perceiver_io.checkpoints.formats.pystate import Params
from perceiver_io.checkpoints.formats.refusal import InvalidFileError, quoted
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.models.modalities import PARAMETER_NAMES, Readout

_CROSS = 'encoder/~/cross_attention'
_LAYER = 'encoder/~/self_attention'
_DECODER = 'multimodal_decoder/~/basic_decoder'


def read_sizes(params: Params) -> dict[str, Any]:
    """The keys of `AutoencoderConfig` that the arrays tell; InvalidFileError where they are of no model.

    They do not tell heads, blocks, the clip's size (frames, height, width, samples_per_frame), the
    highest frequencies, the GELU, nor more of a video patch than its number of pixels.
    """
    shapes = _Shapes(params)
    modalities = tuple(
        modality
        for modality in AutoencoderConfig.modalities
        if f'multimodal_preprocessor/{PARAMETER_NAMES[modality]}_padding' in params
    )
    if not {'video', 'audio'} & set(modalities):
        raise InvalidFileError(
            'it holds neither a multimodal_preprocessor/image_padding nor an '
            'audio_padding: these are not the weights of this model'
        )
    latents, latent_channels = shapes('encoder/~/trainable_position_encoding', 'pos_embs')
    hidden_cross = shapes(f'{_CROSS}/mlp/linear', 'w')[1]
    hidden_self = shapes(f'{_LAYER}/mlp/linear', 'w')[1]
    query_channels, decoder_channels = shapes(f'{_DECODER}/output', 'w')
    sizes = {
        'modalities': modalities,
        'latents': latents,
        'latent_channels': latent_channels,
        'self_attends': _self_attends(params),
        'cross_attention_widening': hidden_cross // latent_channels,
        'self_attention_widening': hidden_self // latent_channels,
        'decoder_channels': decoder_channels,
    }

    paddings, query_paddings, values = {}, {}, {}
    for modality in modalities:
        name = PARAMETER_NAMES[modality]
        paddings[modality] = shapes(f'multimodal_preprocessor/{name}_padding', 'pos_embs')[1]
        query_paddings[modality] = shapes(
            f'multimodal_decoder/~decoder_query/{name}_padding', 'pos_embs'
        )[1]
        values[modality] = shapes(f'{Readout.NAMES[modality]}/linear', 'w')[1]
    sizes['input_padding'] = min(paddings.values())
    sizes['query_padding'] = min(query_paddings.values())
    if 'video' in modalities:
        sizes['channels'] = values['video']
        # A query is the position's code, for each axis 1 + 2 bands, and its padding.
        sizes['video_bands'] = ((query_channels - query_paddings['video']) // 3 - 1) // 2
    if 'audio' in modalities:
        sizes['audio_patch'] = values['audio']
        sizes['audio_bands'] = (query_channels - query_paddings['audio'] - 1) // 2
    if 'label' in modalities:
        sizes['classes'] = values['label']
        sizes['label_query_channels'] = shapes(
            'classification_decoder/~/basic_decoder/~/trainable_position_encoding', 'pos_embs'
        )[1]
    return sizes


def check_video_patch(params: Params, config: AutoencoderConfig) -> None:
    """Raises InvalidFileError where the arrays are of a video patch of another number of pixels."""
    width = _Shapes(params)(_CROSS + '/attention/linear_1', 'w')[0]
    padding = _Shapes(params)('multimodal_preprocessor/image_padding', 'pos_embs')[1]
    pixels = (width - padding - config.video_tokens_position.channels) / config.channels
    if pixels != math.prod(config.video_patch):
        raise InvalidFileError(
            f'its video patches have {pixels:g} pixels, which video_patch='
            f'{config.video_patch} has not: say which in a config beside it'
        )


def check_shapes(params: Mapping[str, Mapping[str, Any]], config: AutoencoderConfig) -> None:
    """Raises InvalidFileError where the arrays are not those of a model of this config."""
    layers = _self_attends(params)
    if config.self_attends != layers:
        raise InvalidFileError(
            f'it has {layers} layers of self-attention, and not {config.self_attends}'
        )
    saved, expected = (
        {
            f'{module}/{name}': tuple(leaf.shape)
            for module, leaves in tree.items()
            for name, leaf in leaves.items()
        }
        for tree in (params, shapes_of(config))
    )
    for name in sorted(saved.keys() | expected.keys()):
        if saved.get(name) != expected.get(name):
            raise InvalidFileError(
                f'{quoted(name)} is {saved.get(name, "absent")} and should be '
                f'{expected.get(name, "absent")}'
            )


def shapes_of(config: AutoencoderConfig) -> dict[str, Mapping[str, jax.ShapeDtypeStruct]]:
    """The parameters' shapes.

    The clip's size is no part of them, and layers are all alike: one, on one patch, is traced
    quickly.
    """
    frames, height, width = config.video_patch
    one = _traced(
        dataclasses.replace(
            config,
            self_attends=1,
            frames=frames,
            height=height,
            width=width,
            samples_per_frame=config.audio_patch,
            video_max_resolution=None,
            audio_max_resolution=None,
            blocks=1,
            self_attention_heads=1,
            position_rounding='xla',
            cross_attention_heads=1,
            decoder_heads=1,
            gelu='tanh',
            dropout=0.0,
            attention_dropout=0.0,
            dtype='float32',
            remat=False,
            decode_memory=0,
        )
    )
    layer = {module: leaves for module, leaves in one.items() if module.startswith(_LAYER + '/')}
    return one | {
        module.replace(_LAYER, f'{_LAYER}_{index}'): leaves
        for index in range(1, config.self_attends)
        for module, leaves in layer.items()
    }


def _self_attends(params: Mapping[str, Any]) -> int:
    return sum(module.startswith(_LAYER) and module.endswith('/mlp/linear') for module in params)


@functools.lru_cache(maxsize=16)
def _traced(config: AutoencoderConfig) -> Mapping:
    return jax.eval_shape(Autoencoder(config).init, jax.random.key(0))


class _Shapes:
    """Shapes of the matrices that have to be there."""

    def __init__(self, params: Params):
        self._params = params

    def __call__(self, module: str, name: str) -> tuple[int, int]:
        leaves = self._params.get(module, {})
        if name not in leaves:
            raise InvalidFileError(
                f'it lacks {module}/{name}: these are not the weights of this model'
            )
        shape = tuple(leaves[name].shape)
        if len(shape) != 2 or (0 in shape and not module.endswith('_padding')):
            raise InvalidFileError(f'{module}/{name} in it has the shape {shape}')
        return shape
