"""The config of a model that takes over the parameters of another one.

A parameter can be taken over if its shape is the same. Widths depend on the classes and on the
modalities: a token is 704 wide because of 700 classes and a padding of 4, and the first
cross-attention depends on that width. So the paddings are raised until tokens and queries are as
wide as the source's. With fewer classes, only the label's padding and the label head are then new,
and with the label hidden the model computes what the source did. Wider tokens are refused: too
little would be left to read a clip with. None of this is in the paper.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from perceiver_io.core.errors import UserError
from perceiver_io.models.config import AutoencoderConfig

# Keys that no parameter to be taken over depends on. All others must be as in the source.
_CLIP_SIZE = ('frames', 'height', 'width', 'samples_per_frame')
_FREE = (
    *_CLIP_SIZE,
    'modalities',
    'classes',
    'dropout',
    'attention_dropout',
    'dtype',
    'attention',
    'remat',
    'decode_memory',
)
# Keys that are free too if the source lacks the modality.
_OF_MODALITY = {
    'video': ('channels', 'video_patch', 'video_bands', 'video_max_resolution'),
    'audio': ('audio_patch', 'audio_bands', 'audio_max_resolution'),
    'label': ('label_query_channels',),
}
_PADDINGS = {'input_padding': 'token_channels', 'query_padding': 'query_channels'}


def fit_config(
    wanted: Mapping[str, Any], source: AutoencoderConfig, name: str = 'the source'
) -> AutoencoderConfig:
    """The config for a model that takes over the parameters of `source`.

    Args:
        wanted: keys of `AutoencoderConfig`; those that are None or absent are as in the source, and
            so is `initialization`. The paddings are raised until tokens and queries have the
            source's widths.
        source: the config of the other model.
        name: what errors call it.

    Returns:
        The config. If the size of the clip differs, the frequencies of the positions stay.

    Raises:
        UserError: a key contradicts the source, or tokens or queries would have to be wider.
    """
    # How the parameters were initialized is a fact about the source.
    given = {
        key: value for key, value in wanted.items() if value is not None and key != 'initialization'
    }
    absent = [modality for modality in _OF_MODALITY if modality not in source.modalities]
    free = (*_FREE, *(key for modality in absent for key in _OF_MODALITY[modality]))
    _check_others_are_equal(given, source, {*free, *_PADDINGS}, name)

    own: dict[str, Any] = {key: value for key, value in given.items() if key in free}
    if 'label' in absent:  # its query is new, and can be as wide as the others
        widest = max(1, source.query_channels - given.get('query_padding', 0))
        own.setdefault('label_query_channels', min(source.label_query_channels, widest))
    if any(own.get(key, getattr(source, key)) != getattr(source, key) for key in _CLIP_SIZE):
        own = {
            'video_max_resolution': source.video_tokens_position.max_resolution,
            'audio_max_resolution': source.audio_position.max_resolution[0],
        } | own
    own |= _paddings(given, own, source, name)
    return dataclasses.replace(source, **own)


def _check_others_are_equal(
    given: Mapping[str, Any], source: AutoencoderConfig, free: set[str], name: str
) -> None:
    contradictions = [
        f'model.{key}={value!r} (there {getattr(source, key)!r})'
        for key, value in given.items()
        if key not in free and value != getattr(source, key)
    ]
    if contradictions:
        raise UserError(
            f'{name} has other parameters than {", ".join(contradictions)}: leave '
            'these keys out (None), or set them to what it has'
        )


def _paddings(
    given: Mapping[str, Any], own: Mapping[str, Any], source: AutoencoderConfig, name: str
) -> dict[str, int]:
    """The paddings that keep the widths of tokens and queries."""
    # One head, because the width without padding need not be divisible by the heads.
    without = {**own, 'input_padding': 0, 'query_padding': 0, 'cross_attention_heads': 1}
    bare = dataclasses.replace(source, **without)
    paddings = {}
    for padding, width in _PADDINGS.items():
        paddings[padding] = getattr(source, width) - getattr(bare, width)
        least = given.get(padding, 0)
        if paddings[padding] < least:
            raise UserError(
                f'{width} would be {getattr(bare, width) + least} and {name} has '
                f'{getattr(source, width)}, whose parameters fit nothing wider: lower what needs '
                f'it (model.classes={bare.classes}, model.modalities={bare.modalities}, '
                f'model.{padding}={least}), or train without init_from'
            )
    return paddings
