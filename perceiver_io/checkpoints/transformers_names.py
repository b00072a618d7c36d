"""The transformers library's names for the parameters, and the original's: the same arrays.

Its `PerceiverForMultimodalAutoencoding` holds a linear layer's weight as [out, in], Haiku as
[in, out]. Many matrices are square, so that no shape would show a missing transpose.
"""

import re
from collections.abc import Mapping

import numpy as np

from perceiver_io.checkpoints.formats.pystate import Params
from perceiver_io.checkpoints.formats.refusal import InvalidFileError, quoted

_NORM = {'weight': 'scale', 'bias': 'offset'}
_LINEAR = {'weight': 'w', 'bias': 'b'}
_PREFIX = 'perceiver.encoder.self_attends.'
_LIBRARY = "the transformers library's PerceiverForMultimodalAutoencoding"


def to_haiku(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """{module: {name: array}} of a state dict; InvalidFileError where it is that of another model."""
    layers = {
        match[1]
        for name in arrays
        if (match := re.match(re.escape(_PREFIX) + r'(\d{1,4})\.', name))
    }
    names = haiku_names(len(layers))
    missing, unknown = names.keys() - arrays.keys(), arrays.keys() - names.keys()
    if missing:
        raise InvalidFileError(f'it lacks {quoted(min(missing))}: it is none of {_LIBRARY}')
    if unknown:
        raise InvalidFileError(f'it holds {quoted(min(unknown))}, which {_LIBRARY} has not')
    params = {}
    for name, (module, leaf) in names.items():
        array = arrays[name]
        if leaf == 'w':
            if array.ndim != 2:
                raise InvalidFileError(f'{name} in it has the shape {array.shape}, and is a matrix')
            array = np.ascontiguousarray(array.T)
        params.setdefault(module, {})[leaf] = array
    return params


def to_transformers(params: Params) -> dict[str, np.ndarray]:
    """The state dict of a model with all three modalities."""
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
    """{name in transformers: (module, name) in Haiku} for a model of so many self-attentions."""
    names = {
        'perceiver.embeddings.latents': ('encoder/~/trainable_position_encoding', 'pos_embs'),
        'perceiver.decoder.modalities.label.decoder.output_position_encodings.position_embeddings': (
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
    names = {}
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
