"""The transformers library's `config.json` for this model, and its keys in ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from perceiver_io.checkpoints.formats.refusal import InvalidFileError, is_name
from perceiver_io.core.errors import UserError
from perceiver_io.models.config import AutoencoderConfig

# Theirs, ours, and what theirs is where `config.json` leaves it out: the library leaves out what is
# the default of its class, which is not the released model's value.
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
# What its class has written into the code.
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
# What is so wherever the library runs a model, whoever trained it.
_ROUNDING = {'position_rounding': 'torch'}
WITHOUT_CONFIG = {'gelu': 'exact'} | _ROUNDING  # else as released


def from_transformers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `AutoencoderConfig` that their config settles; InvalidFileError where this model is not so."""
    act = values.get('hidden_act', 'gelu')
    if not isinstance(act, str) or act not in _GELU:
        raise InvalidFileError(f'its hidden_act is none of {", ".join(_GELU)}')
    if values.get('use_query_residual', True) is not True:
        raise InvalidFileError('its use_query_residual is not true: this model has the residual')
    ours = {name: values.get(theirs, default) for theirs, name, default in _SAME}
    shape = values.get('output_shape', [1, 16, 224, 224])
    side = values.get('image_size', 56)
    if not isinstance(shape, list) or len(shape) != 4 or shape[1] != ours['frames']:
        raise InvalidFileError('its output_shape is no [1, num_frames, height, width]')
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
    """The names in their `id2label`, by index; None where it has none but LABEL_0 and so on."""
    table = values.get('id2label')
    if not isinstance(table, Mapping):
        return None
    names = [table.get(str(index)) for index in range(len(table))]
    if not all(is_name(name) and name != f'LABEL_{index}' for index, name in enumerate(names)):
        return None
    return tuple(names)


def to_transformers(config: AutoencoderConfig, classes: Sequence[str]) -> dict[str, Any]:
    """Their config of a model.

    Args:
        config: ours.
        classes: names by index; k of them.

    Raises:
        UserError: their class cannot be this model; says in which keys it differs.
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
