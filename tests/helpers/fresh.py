"""Fresh parameters without compiling, and what a cross-attention with them reads."""

import dataclasses

import haiku as hk
import jax
import numpy as np

from perceiver_io.models import modalities
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.network.position_encoding import LINSPACE, SUBSAMPLED
from perceiver_io.network.tokens import Tokens

ENCODER = 'encoder/~/cross_attention'
DECODER = 'multimodal_decoder/~/basic_decoder/cross_attention'
LATENTS = 'encoder/~/trainable_position_encoding'


def fresh_parameters(config: AutoencoderConfig) -> dict[str, dict[str, np.ndarray]]:
    """Parameters distributed as the original draws them, drawn by numpy."""
    rng = np.random.default_rng(0)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name == 'w':
            return np.clip(rng.standard_normal(shape), -2, 2) / np.sqrt(0.77 * shape[0])
        return {
            'b': np.zeros(shape),
            'offset': np.zeros(shape),
            'scale': np.ones(shape),
            'pos_embs': 0.02 * rng.standard_normal(shape),
        }[name]

    shapes = jax.eval_shape(Autoencoder(config).init, jax.random.key(0))
    return {
        module: {name: draw(name, leaf.shape).astype(np.float32) for name, leaf in leaves.items()}
        for module, leaves in shapes.items()
    }


def dense_tokens(config, params, rng, video_mean=0.45) -> dict[str, np.ndarray]:
    """The tokens [m, d] of one clip by the model's own code; pixels and samples are random.

    A patch's values have a common deviation and one each. The label has a token for each class.
    """

    def values(count, channels, mean):
        noise = rng.standard_normal((count, channels)) + rng.standard_normal((count, 1))
        return (mean + 0.18 * noise)[None].astype(np.float32)

    def tokens():
        made = {}
        if 'audio' in config.modalities:
            made['audio'] = Tokens(
                data=values(config.audio_patches, config.audio_patch, 0.0),
                position=config.audio_position,
                grid=LINSPACE,
            )
        if 'video' in config.modalities:
            shape = config.video_tokens_position
            channels = int(np.prod(config.video_patch)) * config.channels
            made['video'] = Tokens(
                data=values(shape.size, channels, video_mean), position=shape, grid=LINSPACE
            )
        if 'label' in config.modalities:
            classes = np.arange(config.classes)
            made['label'] = dataclasses.replace(
                modalities.label_tokens(classes, config.classes),
                masked=np.zeros(config.classes, bool),
            )
        padded = modalities.MultimodalPreprocessor(config.input_padding)(made)
        return {
            name: part.dense(config.classes if name == 'label' else 1, np.float32)
            for name, part in padded.items()
        }

    made = hk.without_apply_rng(hk.transform(tokens)).apply(params)
    return {name: np.asarray(x).reshape(-1, x.shape[-1]) for name, x in made.items()}


def dense_queries(config, params, indices) -> dict[str, np.ndarray]:
    """The queries [q, d] by the model's own code; `indices` [q] by modality, and the label's."""

    def queries():
        positions = {'audio': config.audio_position, 'video': config.video_query_position}
        made = {
            name: Tokens(position=positions[name], grid=SUBSAMPLED, index=np.asarray(index))
            for name, index in indices.items()
        }
        if 'label' in config.modalities:
            made['label'] = modalities.ClassificationDecoder(config.label_query_channels)()
        decoder = modalities.MultimodalDecoder(config)
        return {
            name: part.dense(1, np.float32) for name, part in decoder.decoder_query(made).items()
        }

    made = hk.without_apply_rng(hk.transform(queries)).apply(params)
    return {name: np.asarray(x).reshape(-1, x.shape[-1]) for name, x in made.items()}


def logits(params, module, heads, queries, keys) -> np.ndarray:
    """[heads, q, m]: the logits of a cross-attention, from its parameters alone."""

    def project(layer, norm, x):
        x = x.astype(float)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x = x * params[f'{module}/{norm}']['scale'] + params[f'{module}/{norm}']['offset']
        weights = params[f'{module}/attention/{layer}']
        y = x @ weights['w'].astype(float) + weights['b']
        return y.reshape(len(y), heads, -1).transpose(1, 0, 2)

    q = project('linear', 'layer_norm', queries)
    k = project('linear_1', 'layer_norm_1', keys)
    return q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])


def softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
