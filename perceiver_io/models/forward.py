"""The autoencoder's forward pass, as functions to be run inside `hk.transform`."""

import dataclasses
from collections.abc import Callable, Mapping

import jax

from perceiver_io.core.clip import Clip, Output
from perceiver_io.models import modalities
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.models.modalities import PARAMETER_NAMES
from perceiver_io.network.perceiver import PerceiverEncoder
from perceiver_io.network.position_encoding import (
    LINSPACE,
    SUBSAMPLED,
    FourierPositionEncoding,
    Grid,
)
from perceiver_io.network.tokens import Tokens


def encode(config: AutoencoderConfig, clip: Clip, masked: Mapping[str, jax.Array]) -> jax.Array:
    """Clips, and which examples of a modality are hidden, bool [b], to latents [b, n, d]."""
    return PerceiverEncoder(config, config)(list(_tokens(config, clip, masked).values()))


def decode(
    config: AutoencoderConfig,
    latents: jax.Array,
    video_index: jax.Array | None,
    audio_index: jax.Array | None,
    grid: Grid | None,
) -> Output:
    """Latents [b, n, d] to video [b, q, c], audio [b, q, patch] and label [b, k]."""
    queries = _queries(config, video_index, audio_index, grid)
    values = {'audio': config.audio_patch, 'video': config.channels, 'label': config.classes}
    readouts = {modality: modalities.Readout(modality, values[modality]) for modality in queries}
    outputs = modalities.MultimodalDecoder(config)(queries, latents, readouts)
    if 'label' in outputs:
        outputs['label'] = outputs['label'][:, 0]
    return Output(**outputs)


def encoder_attention(
    config: AutoencoderConfig, clip: Clip, masked: Mapping[str, jax.Array], index: jax.Array
) -> dict[str, jax.Array]:
    """How much the latents of an index [r] read of every token: [b, r, m] of each modality."""
    tokens = _tokens(config, clip, masked)
    shares = PerceiverEncoder(config, config).attention_weights(list(tokens.values()), index)
    return dict(zip(tokens, shares))


def decoder_attention(
    config: AutoencoderConfig, latents: jax.Array, video_index: jax.Array, audio_index: jax.Array
) -> dict[str, jax.Array]:
    """The attention of queries to the latents [b, n, d]: [b, q, n] of each modality."""
    queries = _queries(config, video_index, audio_index, SUBSAMPLED)
    return modalities.MultimodalDecoder(config).attention_weights(queries, latents)


def _tokens(
    config: AutoencoderConfig, clip: Clip, masked: Mapping[str, jax.Array]
) -> dict[str, Tokens]:
    """Of every modality, all of one width."""
    make = {
        'audio': lambda: modalities.audio_tokens(
            clip.audio, config.audio_patch, config.audio_position
        ),
        'video': lambda: modalities.video_tokens(
            clip.video, config.video_patch, config.video_tokens_position
        ),
        'label': lambda: modalities.label_tokens(clip.label, config.classes),
    }
    tokens = {
        modality: dataclasses.replace(make[modality](), masked=masked.get(modality))
        for modality in PARAMETER_NAMES
        if modality in config.modalities
    }
    return modalities.MultimodalPreprocessor(config.input_padding)(tokens)


def _queries(
    config: AutoencoderConfig,
    video_index: jax.Array | None,
    audio_index: jax.Array | None,
    grid: Grid | None,
) -> dict[str, Tokens]:
    """Of every modality, not yet padded to one width."""

    def query(position: FourierPositionEncoding, index: jax.Array | None) -> Tokens:
        usual: Grid = LINSPACE if index is None else SUBSAMPLED
        return Tokens(position=position, grid=grid or usual, index=index)

    make: dict[str, Callable[[], Tokens]] = {
        'audio': lambda: query(config.audio_position, audio_index),
        'video': lambda: query(config.video_query_position, video_index),
        'label': modalities.ClassificationDecoder(config.label_query_channels),
    }
    return {
        modality: make[modality]() for modality in PARAMETER_NAMES if modality in config.modalities
    }
