"""The parts of the model that differ between modalities: tokens, queries and readouts.

The parameter names are the original's, which calls the video "image". Modalities come in the order
of PARAMETER_NAMES, as in the original, which sorts them by name.
"""

import dataclasses
from collections.abc import Mapping

import haiku as hk
import jax

from perceiver_io.core.clip import Clip, to_float
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.network.layers import Affine
from perceiver_io.network.perceiver import BasicDecoder
from perceiver_io.network.position_encoding import LINSPACE, FourierPositionEncoding
from perceiver_io.network.tokens import Tokens
from perceiver_io.network.weights import Linear, TrainablePositionEncoding

PARAMETER_NAMES = {'audio': 'audio', 'video': 'image', 'label': 'label'}


def patch_video(video: jax.Array, patch: tuple[int, int, int]) -> jax.Array:
    """Space to depth: [b, t, h, w, c] to [b, m, pt * ph * pw * c], row-major in (t, y, x)."""
    b, t, h, w, c = video.shape
    pt, ph, pw = patch
    x = video.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(b, -1, pt * ph * pw * c)


def patch_audio(audio: jax.Array, patch: int) -> jax.Array:
    """[b, s, 1] to [b, s / patch, patch]."""
    return audio.reshape(audio.shape[0], -1, patch)


def video_tokens(
    video: jax.Array, patch: tuple[int, int, int], position: FourierPositionEncoding
) -> Tokens:
    """[b, t, h, w, c], uint8 or in [0, 1], to tokens of patches with their positions."""
    # Integers are rearranged as they are: that moves a quarter of the memory.
    data = to_float(Clip(video=patch_video(video, patch))).video
    return Tokens(data=data, position=position, grid=LINSPACE)


def audio_tokens(audio: jax.Array, patch: int, position: FourierPositionEncoding) -> Tokens:
    """[b, s, 1], int16 or in [-1, 1], to tokens of patches with their positions."""
    data = to_float(Clip(audio=patch_audio(audio, patch))).audio
    return Tokens(data=data, position=position, grid=LINSPACE)


def label_tokens(label: jax.Array, classes: int) -> Tokens:
    """Class indices [b] to a one-hot token each."""
    return Tokens(data=jax.nn.one_hot(label, classes)[:, None, :])


class MultimodalPreprocessor(hk.Module):
    """Pads all tokens to one width: that of the widest modality plus `min_padding`, learned."""

    def __init__(self, min_padding: int, name: str = 'multimodal_preprocessor'):
        super().__init__(name=name)
        self.min_padding = min_padding

    def __call__(self, tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
        width = max(part.width for part in tokens.values()) + self.min_padding
        padded = {}
        for modality, part in tokens.items():
            name = PARAMETER_NAMES[modality]
            padding = TrainablePositionEncoding(1, width - part.width, name=f'{name}_padding')()
            # A mask token for each modality; the released model was trained with the label's only.
            mask_token = TrainablePositionEncoding(1, width, name=f'{name}_mask_token')()
            padded[modality] = dataclasses.replace(
                part, padding=padding[0], mask_token=mask_token[0]
            )
        return padded


class ClassificationDecoder(hk.Module):
    """Makes the query of the class, which is learned."""

    def __init__(self, query_channels: int, name: str = 'classification_decoder'):
        super().__init__(name=name)
        self.query = _LearnedQuery(query_channels)

    def __call__(self) -> Tokens:
        return Tokens(data=self.query())


class _LearnedQuery(hk.Module):
    """A place in the parameter tree: the original keeps the query inside a basic decoder."""

    def __init__(self, channels: int, name: str = 'basic_decoder'):
        super().__init__(name=name)
        self.encoding = TrainablePositionEncoding(1, channels)

    def __call__(self) -> jax.Array:
        return self.encoding()


class MultimodalDecoder(hk.Module):
    """Decodes the queries of all modalities, each with its own linear readout."""

    def __init__(self, config: AutoencoderConfig, name: str = 'multimodal_decoder'):
        super().__init__(name=name)
        self.min_padding = config.query_padding
        self.decoder = BasicDecoder(config, config)

    def decoder_query(self, queries: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """Pads the queries to one width: that of the widest modality plus the least padding."""
        width = max(part.width for part in queries.values()) + self.min_padding
        padded = {}
        for modality, part in queries.items():
            name = f'{PARAMETER_NAMES[modality]}_padding'
            padding = TrainablePositionEncoding(1, width - part.width, name=name)()
            padded[modality] = dataclasses.replace(part, padding=padding[0])
        return padded

    def __call__(
        self, queries: Mapping[str, Tokens], latents: jax.Array, readouts: Mapping[str, 'Readout']
    ) -> dict[str, jax.Array]:
        """Queries and latents [b, n, d] to outputs [b, q, k] of each modality, float32."""
        padded = self.decoder_query(queries)
        outputs = self.decoder(
            list(padded.values()), latents, [readouts[modality] for modality in padded]
        )
        return dict(zip(padded, outputs))

    def attention_weights(
        self, queries: Mapping[str, Tokens], latents: jax.Array
    ) -> dict[str, jax.Array]:
        """The attention of queries to every latent: [b, q, n] of each modality."""
        padded = self.decoder_query(queries)
        return dict(zip(padded, self.decoder.attention_weights(list(padded.values()), latents)))


class Readout(hk.Module):
    """Makes the weights of a modality's linear layer from the decoder's outputs to its values."""

    NAMES = {
        'audio': 'audio_postprocessor',
        'video': 'projection_postprocessor',
        'label': 'classification_postprocessor',
    }

    def __init__(self, modality: str, values: int):
        super().__init__(name=self.NAMES[modality])
        self.values = values

    def __call__(self, channels: int) -> Affine:
        return Linear(self.values)(channels)
