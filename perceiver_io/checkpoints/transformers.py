"""The transformers library's PerceiverForMultimodalAutoencoding: its names and its `config.json`.

It holds the same arrays under other names, and a linear layer's weight as [out, in], Haiku as
[in, out]. Many matrices are square, so their shapes do not show a missing transpose.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from perceiver_io.checkpoints.formats.checks import is_name, quoted
from perceiver_io.core.errors import InvalidFileError, UserError
from perceiver_io.models.config import AutoencoderConfig

Params = Mapping[str, Mapping[str, ArrayLike]]

_NORM = {'weight': 'scale', 'bias': 'offset'}
_LINEAR = {'weight': 'w', 'bias': 'b'}
_LABEL = 'perceiver.decoder.modalities.label.decoder'
_PREFIX = 'perceiver.encoder.self_attends.'
_LIBRARY = "the transformers library's PerceiverForMultimodalAutoencoding"
# The library's key, ours, and the value where `config.json` lacks the key: the library leaves out
# defaults of its config class, which differ from the released model.
_SAME = (
    ('num_latents', 'latents', 256),
    ('d_latents', 'latent_channels', 1280),
    ('num_blocks', 'blocks', 1),
    ('num_self_attends_per_block', 'self_attends', 26),
    ('num_self_attention_heads', 'self_attention_heads', 8),
    ('num_cross_attention_heads', 'cross_attention_heads', 8),
    ('self_attention_widening_factor', 'self_attention_widening', 1),
    ('cross_attention_widening_factor', 'cross_attention_widening', 1),
    ('num_frames', 'frames', 16),
    ('audio_samples_per_frame', 'samples_per_frame', 1920),
    ('samples_per_patch', 'audio_patch', 16),
    ('output_num_channels', 'decoder_channels', 512),
    ('_label_trainable_num_channels', 'label_query_channels', 1024),
)
_GELU = {
    'gelu': 'exact',
    'gelu_python': 'exact',
    'gelu_new': 'tanh',
    'gelu_pytorch_tanh': 'tanh',
    'gelu_fast': 'tanh',
    'gelu_accurate': 'tanh',
}
# Constants in the code of its class.
_FIXED = {
    'modalities': ('video', 'audio', 'label'),
    'channels': 3,
    'video_patch': (1, 4, 4),
    'video_bands': 32,
    'audio_bands': 192,
    'decoder_heads': 1,
    'input_padding': 4,
    'query_padding': 2,
}
# The library rounds position codes so, whoever trained the model.
_ROUNDING = {'position_rounding': 'torch'}
WITHOUT_CONFIG = {'gelu': 'exact'} | _ROUNDING  # the rest as released


def from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """{module: {name: array}} of a state dict; InvalidFileError if it is another model's."""
    layers = {
        match[1]
        for name in arrays
        if (match := re.match(re.escape(_PREFIX) + r'(\d{1,4})\.', name))
    }
    names = haiku_names(len(layers))
    missing, unknown = names.keys() - arrays.keys(), arrays.keys() - names.keys()
    if missing:
        raise InvalidFileError(f'it lacks {quoted(min(missing))}: it is not one of {_LIBRARY}')
    if unknown:
        raise InvalidFileError(f'it holds {quoted(min(unknown))}, which {_LIBRARY} does not have')
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, (module, leaf) in names.items():
        array = arrays[name]
        if leaf == 'w':
            if array.ndim != 2:
                raise InvalidFileError(
                    f'{name} in it has the shape {array.shape}, and should be a matrix'
                )
            array = np.ascontiguousarray(array.T)
        params.setdefault(module, {})[leaf] = array
    return params


def to_arrays(params: Params) -> dict[str, np.ndarray]:
    """The state dict, {name: array}, of a model with all three modalities."""
    layers = sum(
        re.fullmatch(r'encoder/~/self_attention(_\d+)?/layer_norm', module) is not None
        for module in params
    )
    arrays = {}
    for name, (module, leaf) in haiku_names(layers).items():
        array = np.asarray(params[module][leaf])
        arrays[name] = np.ascontiguousarray(array.T) if leaf == 'w' else array
    return arrays


def haiku_names(self_attends: int) -> dict[str, tuple[str, str]]:
    """{name in transformers: (module, name) in Haiku} for this number of self-attention layers."""
    names = {
        'perceiver.embeddings.latents': ('encoder/~/trainable_position_encoding', 'pos_embs'),
        f'{_LABEL}.output_position_encodings.position_embeddings': (
            'classification_decoder/~/basic_decoder/~/trainable_position_encoding',
            'pos_embs',
        ),
    }
    for modality in ('audio', 'image', 'label'):
        names |= {
            f'perceiver.input_preprocessor.padding.{modality}': (
                f'multimodal_preprocessor/{modality}_padding',
                'pos_embs',
            ),
            f'perceiver.input_preprocessor.mask.{modality}': (
                f'multimodal_preprocessor/{modality}_mask_token',
                'pos_embs',
            ),
            f'perceiver.decoder.padding.{modality}': (
                f'multimodal_decoder/~decoder_query/{modality}_padding',
                'pos_embs',
            ),
        }
    names |= _layer('perceiver.encoder.cross_attention', 'encoder/~/cross_attention', cross=True)
    for layer in range(self_attends):
        suffix = f'_{layer}' if layer else ''
        names |= _layer(f'{_PREFIX}{layer}', f'encoder/~/self_attention{suffix}', cross=False)
    decoder = 'multimodal_decoder/~/basic_decoder'
    names |= _layer(
        'perceiver.decoder.decoder.decoding_cross_attention',
        f'{decoder}/cross_attention',
        cross=True,
    )
    names |= _leaves('perceiver.decoder.decoder.final_layer', f'{decoder}/output', _LINEAR)
    for modality, module in (
        ('audio', 'audio_postprocessor'),
        ('image', 'projection_postprocessor'),
        ('label', 'classification_postprocessor'),
    ):
        names |= _leaves(
            f'perceiver.output_postprocessor.modalities.{modality}.classifier',
            f'{module}/linear',
            _LINEAR,
        )
    return names


def _layer(theirs: str, ours: str, *, cross: bool) -> dict[str, tuple[str, str]]:
    """A cross- or a self-attention: its norms, its four linear layers, its MLP."""
    norms = [
        'attention.self.layernorm1',
        *(['attention.self.layernorm2'] if cross else []),
        'layernorm',
    ]
    names: dict[str, tuple[str, str]] = {}
    for number, norm in enumerate(norms):
        suffix = f'_{number}' if number else ''
        names |= _leaves(f'{theirs}.{norm}', f'{ours}/layer_norm{suffix}', _NORM)
    for linear, module in (
        ('attention.self.query', 'attention/linear'),
        ('attention.self.key', 'attention/linear_1'),
        ('attention.self.value', 'attention/linear_2'),
        ('attention.output.dense', 'attention/linear_3'),
        ('mlp.dense1', 'mlp/linear'),
        ('mlp.dense2', 'mlp/linear_1'),
    ):
        names |= _leaves(f'{theirs}.{linear}', f'{ours}/{module}', _LINEAR)
    return names


def _leaves(theirs: str, ours: str, leaves: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {f'{theirs}.{name}': (ours, leaf) for name, leaf in leaves.items()}


def from_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `AutoencoderConfig` from the library's config.

    Raises:
        InvalidFileError: the config is damaged, or of a variant that this model does not have.
    """
    act = values.get('hidden_act', 'gelu')
    if not isinstance(act, str) or act not in _GELU:
        raise InvalidFileError(f'its hidden_act is not one of {", ".join(_GELU)}')
    if values.get('use_query_residual', True) is not True:
        raise InvalidFileError('its use_query_residual is not true: this model has the residual')
    ours = {name: values.get(theirs, default) for theirs, name, default in _SAME}
    shape = values.get('output_shape', [1, 16, 224, 224])
    side = values.get('image_size', 56)
    if not isinstance(shape, list) or len(shape) != 4 or shape[1] != ours['frames']:
        raise InvalidFileError('its output_shape must be [1, num_frames, height, width]')
    return (
        _FIXED
        | _ROUNDING
        | ours
        | {
            'height': shape[2],
            'width': shape[3],
            'gelu': _GELU[act],
            'video_max_resolution': (ours['frames'], side, side),
        }
    )


def class_names(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names in `id2label` by index; None for the placeholders LABEL_0, LABEL_1 and so on."""
    table = values.get('id2label')
    if not isinstance(table, Mapping):
        return None
    names = [table.get(str(index)) for index in range(len(table))]
    if not all(is_name(name) and name != f'LABEL_{index}' for index, name in enumerate(names)):
        return None
    return tuple(map(str, names))


def to_config(config: AutoencoderConfig, classes: Sequence[str]) -> dict[str, Any]:
    """The library's config of a model.

    Args:
        config: of the model.
        classes: k names by index.

    Raises:
        UserError: the library's class cannot represent this model; names the keys that differ.
    """
    other = [
        f'{name}={getattr(config, name)!r} (there {value!r})'
        for name, value in _FIXED.items()
        if getattr(config, name) != value
    ]
    resolution = config.video_max_resolution or config.video_token_shape
    if resolution != (config.frames, resolution[1], resolution[1]):
        other.append(f'video_max_resolution={resolution} (there frames and twice one number)')
    if config.audio_position.max_resolution != (config.samples,):
        other.append(f'audio_max_resolution={config.audio_max_resolution} (there {config.samples})')
    if other:
        raise UserError(
            'the transformers library cannot hold this model: it has '
            f'{", ".join(other)}; convert it to a .pystate instead'
        )
    return {
        'architectures': ['PerceiverForMultimodalAutoencoding'],
        'model_type': 'perceiver',
        **{theirs: getattr(config, ours) for theirs, ours, _ in _SAME},
        'd_model': config.token_channels,
        'image_size': resolution[1],
        'output_shape': [1, *config.video_shape],
        'hidden_act': {'tanh': 'gelu_new', 'exact': 'gelu'}[config.gelu],
        'id2label': {str(index): name for index, name in enumerate(classes)},
        'label2id': {name: index for index, name in enumerate(classes)},
    }
