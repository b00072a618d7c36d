"""Parameter shapes from a model's config, and the config's sizes from the parameters.

The shapes are written out, so that a checkpoint is checked without tracing a model. Tests compare
them with those of `Autoencoder.init`.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Protocol

from perceiver_io.checkpoints.formats.checks import quoted
from perceiver_io.core.errors import InvalidFileError
from perceiver_io.models.config import MODALITIES, AutoencoderConfig

Shape = tuple[int, ...]

_CROSS = 'encoder/~/cross_attention'
_LAYER = 'encoder/~/self_attention'
_DECODER = 'multimodal_decoder/~/basic_decoder'
_LATENTS = 'encoder/~/trainable_position_encoding'
_LABEL_QUERY = 'classification_decoder/~/basic_decoder/~/trainable_position_encoding'
_NAMES = {'video': 'image', 'audio': 'audio', 'label': 'label'}  # of modalities in parameters
_READOUTS = {
    'video': 'projection_postprocessor/linear',
    'audio': 'audio_postprocessor/linear',
    'label': 'classification_postprocessor/linear',
}


class HasShape(Protocol):
    """An array, or what stands for one."""

    @property
    def shape(self) -> Shape: ...


Arrays = Mapping[str, Mapping[str, HasShape]]


def parameter_shapes(config: AutoencoderConfig) -> dict[str, dict[str, Shape]]:
    """The shape of every parameter of a model, {module: {name: shape}}."""
    latents, tokens, queries = config.latent_channels, config.token_channels, config.query_channels
    shapes: dict[str, dict[str, Shape]] = {_LATENTS: {'pos_embs': (config.latents, latents)}}
    token_widths, query_widths = _token_widths(config), _query_widths(config)
    values = {'video': config.channels, 'audio': config.audio_patch, 'label': config.classes}
    for modality in config.modalities:
        name = _NAMES[modality]
        token_padding = tokens - token_widths[modality]
        query_padding = queries - query_widths[modality]
        shapes |= {
            f'multimodal_preprocessor/{name}_padding': {'pos_embs': (1, token_padding)},
            f'multimodal_preprocessor/{name}_mask_token': {'pos_embs': (1, tokens)},
            f'multimodal_decoder/~decoder_query/{name}_padding': {'pos_embs': (1, query_padding)},
            _READOUTS[modality]: _linear(config.decoder_channels, values[modality]),
        }
    if 'label' in config.modalities:
        shapes[_LABEL_QUERY] = {'pos_embs': (1, config.label_query_channels)}
    shapes |= _cross_attention(_CROSS, latents, tokens, config.cross_attention_widening)
    for layer in range(config.self_attends):
        shapes |= _self_attention(_layer_name(layer), latents, config.self_attention_widening)
    shapes |= _cross_attention(f'{_DECODER}/cross_attention', queries, latents, 1)
    shapes[f'{_DECODER}/output'] = _linear(queries, config.decoder_channels)
    return shapes


def check_shapes(params: Arrays, config: AutoencoderConfig) -> None:
    """Raises InvalidFileError unless the arrays are those of a model of this config."""
    layers = _self_attends(params)
    if config.self_attends != layers:
        raise InvalidFileError(
            f'it has {layers} layers of self-attention, and not {config.self_attends}'
        )
    saved = {
        f'{module}/{name}': tuple(leaf.shape)
        for module, leaves in params.items()
        for name, leaf in leaves.items()
    }
    expected = {
        f'{module}/{name}': shape
        for module, leaves in parameter_shapes(config).items()
        for name, shape in leaves.items()
    }
    for name in sorted(saved.keys() | expected.keys()):
        if saved.get(name) != expected.get(name):
            raise InvalidFileError(
                f'{quoted(name)} is {saved.get(name, "absent")} and should be '
                f'{expected.get(name, "absent")}'
            )


def read_sizes(params: Arrays) -> dict[str, Any]:
    """The fields of `AutoencoderConfig` that follow from the arrays' shapes.

    These fields do not: heads, blocks, the size of a clip (frames, height, width,
    samples_per_frame), the highest frequencies of the position codes, the GELU, and the shape of a
    video patch with a given number of pixels (see `check_video_patch`).

    Raises:
        InvalidFileError: the arrays belong to no model of this kind.
    """
    modalities = tuple(
        modality
        for modality in MODALITIES
        if f'multimodal_preprocessor/{_NAMES[modality]}_padding' in params
    )
    if not {'video', 'audio'} & set(modalities):
        raise InvalidFileError(
            'it holds neither a multimodal_preprocessor/image_padding nor an '
            'audio_padding: these are not the weights of this model'
        )
    latents, latent_channels = _matrix(params, _LATENTS, 'pos_embs')
    hidden_cross = _matrix(params, f'{_CROSS}/mlp/linear', 'w')[1]
    hidden_self = _matrix(params, f'{_LAYER}/mlp/linear', 'w')[1]
    query_channels, decoder_channels = _matrix(params, f'{_DECODER}/output', 'w')
    sizes: dict[str, Any] = {
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
        name = _NAMES[modality]
        paddings[modality] = _matrix(params, f'multimodal_preprocessor/{name}_padding', 'pos_embs')
        query_paddings[modality] = _matrix(
            params, f'multimodal_decoder/~decoder_query/{name}_padding', 'pos_embs'
        )
        values[modality] = _matrix(params, _READOUTS[modality], 'w')[1]
    sizes['input_padding'] = min(width for _, width in paddings.values())
    sizes['query_padding'] = min(width for _, width in query_paddings.values())
    if 'video' in modalities:
        sizes['channels'] = values['video']
        # A query is the position code, 1 + 2 bands for each of three axes, and the padding.
        sizes['video_bands'] = ((query_channels - query_paddings['video'][1]) // 3 - 1) // 2
    if 'audio' in modalities:
        sizes['audio_patch'] = values['audio']
        sizes['audio_bands'] = (query_channels - query_paddings['audio'][1] - 1) // 2
    if 'label' in modalities:
        sizes['classes'] = values['label']
        sizes['label_query_channels'] = _matrix(params, _LABEL_QUERY, 'pos_embs')[1]
    return sizes


def check_video_patch(params: Arrays, config: AutoencoderConfig) -> None:
    """Raises InvalidFileError if the arrays are for video patches of another number of pixels."""
    width = _matrix(params, f'{_CROSS}/attention/linear_1', 'w')[0]
    padding = _matrix(params, 'multimodal_preprocessor/image_padding', 'pos_embs')[1]
    pixels = (width - padding - config.video_tokens_position.channels) / config.channels
    if pixels != math.prod(config.video_patch):
        raise InvalidFileError(
            f'its video patches have {pixels:g} pixels, and video_patch={config.video_patch} has '
            f'{math.prod(config.video_patch)}: give the patch in a config beside the file'
        )


def _token_widths(config: AutoencoderConfig) -> dict[str, int]:
    """Widths of the tokens before they are padded."""
    patch = math.prod(config.video_patch) * config.channels
    return {
        'video': patch + config.video_tokens_position.channels,
        'audio': config.audio_patch + config.audio_position.channels,
        'label': config.classes,
    }


def _query_widths(config: AutoencoderConfig) -> dict[str, int]:
    """Widths of the queries before they are padded."""
    return {
        'video': config.video_query_position.channels,
        'audio': config.audio_position.channels,
        'label': config.label_query_channels,
    }


def _linear(inputs: int, outputs: int) -> dict[str, Shape]:
    return {'w': (inputs, outputs), 'b': (outputs,)}


def _norm(width: int) -> dict[str, Shape]:
    return {'scale': (width,), 'offset': (width,)}


def _cross_attention(name: str, outer: int, inner: int, widening: int) -> dict[str, Any]:
    """Modules of a cross-attention from `outer` (queries) to `inner` (keys and values) channels."""
    return {
        f'{name}/layer_norm': _norm(outer),
        f'{name}/layer_norm_1': _norm(inner),
        **_attention(name, outer, inner),
        f'{name}/layer_norm_2': _norm(outer),
        **_mlp(name, outer, widening),
    }


def _self_attention(name: str, width: int, widening: int) -> dict[str, Any]:
    return {
        f'{name}/layer_norm': _norm(width),
        **_attention(name, width, width),
        f'{name}/layer_norm_1': _norm(width),
        **_mlp(name, width, widening),
    }


def _attention(name: str, outer: int, inner: int) -> dict[str, Any]:
    """Queries, keys, values and outputs."""
    return {
        f'{name}/attention/linear': _linear(outer, inner),
        f'{name}/attention/linear_1': _linear(inner, inner),
        f'{name}/attention/linear_2': _linear(inner, inner),
        f'{name}/attention/linear_3': _linear(inner, outer),
    }


def _mlp(name: str, width: int, widening: int) -> dict[str, Any]:
    return {
        f'{name}/mlp/linear': _linear(width, widening * width),
        f'{name}/mlp/linear_1': _linear(widening * width, width),
    }


def _layer_name(layer: int) -> str:
    return f'{_LAYER}_{layer}' if layer else _LAYER


def _self_attends(params: Mapping[str, Any]) -> int:
    return sum(
        re.fullmatch(rf'{_LAYER}(_\d+)?/mlp/linear', module) is not None for module in params
    )


def _matrix(params: Arrays, module: str, name: str) -> tuple[int, int]:
    """The shape of a matrix that has to be there."""
    leaves = params.get(module, {})
    if name not in leaves:
        raise InvalidFileError(f'it lacks {module}/{name}: these are not the weights of this model')
    shape = tuple(leaves[name].shape)
    if len(shape) != 2 or (0 in shape and not module.endswith('_padding')):
        raise InvalidFileError(f'{module}/{name} in it has the shape {shape}')
    return shape
