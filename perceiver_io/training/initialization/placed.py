"""The placed start: each latent reads around its own place, and each query reads latents nearby.

With the original's initial values all latents are nearly the same average of all tokens, and an
output hardly depends on the query. Here each latent is given a modality and a place in it. A place
p is represented by features F(p), see `places.Features`, whose inner products are a kernel with its
maximum at p = p':

    latents    contain the features of their own place, and a constant, in directions that only
               their modality uses
    encoder    its keys are the features of the tokens' places: a latent reads around its place
    decoder    its queries are the features of the places asked for, and the constant of their
               modality; its keys are those in the latents. What the encoder adds to the latents
               leaves their directions alone

The weights that turn tokens and queries into features are found by ridge regression, the scales of
the logits by bisection, see `attention`. Only initial values differ: the function, the parameter
tree and the formats of checkpoints are the original's. Related work: mimetic initialization, arXiv
2305.09828.

Shapes: n latents, d channels, r features, m tokens.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.models.modalities import Readout
from perceiver_io.training.initialization import attention, grids
from perceiver_io.training.initialization.attention import orthonormal
from perceiver_io.training.initialization.placement import Placement
from perceiver_io.training.initialization.places import Features, latent_places, make_features

ENCODER = 'encoder/~/cross_attention'
DECODER = 'multimodal_decoder/~/basic_decoder/cross_attention'
LATENTS = 'encoder/~/trainable_position_encoding'
ADDED_TO_LATENTS = ('attention/linear_3', 'mlp/linear_1')  # output layers in the encoder

Params = dict[str, dict[str, np.ndarray]]
Target = Callable[[np.ndarray], np.ndarray]  # places [m, axes] to features [m, r]


def placed_parameters(
    params: grids.Arrays, config: AutoencoderConfig, placement: Placement, seed: int
) -> Params:
    """The initial values of the placed start, float32.

    Args:
        params: fresh parameters of the model. Those that the placed start does not concern are
            returned as they are.
        config: of the model.
        placement: what the start aims at.
        seed: of the directions of the features and of the points looked at.

    Raises:
        UserError: see `places.check_placement`.
    """
    rng = np.random.default_rng(seed)
    values = {
        module: {name: np.array(leaf, np.float32) for name, leaf in leaves.items()}
        for module, leaves in params.items()
    }
    places = latent_places(config, placement)
    features = make_features(config, places, placement)
    has_label = 'label' in config.modalities
    d = config.latent_channels

    held = {}
    for name, place in places.items():
        f = with_constant(features[name])(place.points)
        held[name] = f / np.linalg.norm(f, axis=1, keepdims=True) * math.sqrt(d)
    directions = orthonormal(sum(f.shape[1] for f in held.values()), d, rng, centred=True)
    latents = block_diagonal(list(held.values())) @ directions
    values[LATENTS]['pos_embs'] = latents.astype(np.float32)

    tokens = grids.token_grids(values, config, placement.video_mean)
    label = grids.label_tokens(values, config) if has_label else None
    multiples = {
        'video': placement.tokens_per_latent,
        'audio': placement.audio_tokens_per_latent,
    }
    keys = []
    for name, f in held.items():
        w = attention.regress(tokens, label, name, centred(features[name]), rng)
        target = multiples[name] * tokens[name].position.size / len(f)
        logits = attention.reading_logits(tokens, w, f, rng)
        keys.append(w * attention.solve_scale(logits, target))
    set_attention(
        values[f'{ENCODER}/attention/linear'],
        values[f'{ENCODER}/attention/linear_1'],
        config.cross_attention_heads,
        rng,
        query=directions.T,
        key=np.concatenate(keys, axis=1),
    )

    queries = grids.query_grids(values, config)
    label = grids.label_queries(values) if has_label else None
    asked = []
    for name, f in held.items():
        w = attention.regress(queries, label, name, with_constant(features[name]), rng)
        target = math.prod(min(placement.latents_per_query, n) for n in places[name].counts)
        logits = attention.asking_logits(queries[name], w, f, config.latents, rng)
        asked.append(w * attention.solve_scale(logits, target))
    set_attention(
        values[f'{DECODER}/attention/linear'],
        values[f'{DECODER}/attention/linear_1'],
        config.decoder_heads,
        rng,
        query=np.concatenate(asked, axis=1),
        key=directions.T,
    )

    set_outputs(values, directions, placement)
    if placement.shuffle:  # the network does not depend on the order of the latents
        values[LATENTS]['pos_embs'] = rng.permutation(values[LATENTS]['pos_embs'])
    return values


def with_constant(features: Features) -> Target:
    """F and a constant of the same norm, by which a query finds the latents of its modality."""
    constant = math.sqrt(max(1, sum(len(axis) > 1 for axis in features.axes)))

    def target(points: np.ndarray) -> np.ndarray:
        return np.pad(features(points), ((0, 0), (0, 1)), constant_values=constant)

    return target


def centred(features: Features) -> Target:
    """F less its mean, and 0 for the constant.

    Tokens differ in their values, too: for a constant, the regression would amplify these.
    """

    def target(points: np.ndarray) -> np.ndarray:
        f = features(points)
        return np.pad(f - f.mean(axis=0), ((0, 0), (0, 1)))

    return target


def set_attention(
    query_layer: Mapping[str, np.ndarray],
    key_layer: Mapping[str, np.ndarray],
    heads: int,
    rng: np.random.Generator,
    *,
    query: np.ndarray,
    key: np.ndarray,
) -> None:
    """Makes the logits of every head those of the features x query and y key, in place.

    Both go through the same orthonormal [r, e] into the e channels of a head. The factor cancels
    the attention's division by the root of e.

    Args:
        query_layer: the linear layer of the queries, with w [d, heads * e].
        key_layer: that of the keys, with w [d', heads * e].
        heads: of the attention.
        rng: of the orthonormal matrices.
        query: [d, r].
        key: [d', r].
    """
    e = query_layer['w'].shape[1] // heads
    rotations = [orthonormal(query.shape[1], e, rng) for _ in range(heads)]
    for layer, w in ((query_layer, query), (key_layer, key)):
        by_head = [w @ rotation for rotation in rotations]
        layer['w'][:] = math.sqrt(math.sqrt(e)) * np.concatenate(by_head, axis=1)


def set_outputs(params: Params, directions: np.ndarray, placement: Placement) -> None:
    """Changes the encoder's output layers, the readouts and the video's bias, in place.

    What the encoder's layers add keeps out of the directions [r, d] of the places. Otherwise it
    changes the places that the decoder finds: with few channels, pixels attend to latents that are
    several rows away, and training may never find some of the rows.
    """
    readouts = {f'{name}/linear' for name in Readout.NAMES.values()}
    for module, leaves in params.items():
        if module.startswith('encoder/') and module.endswith(ADDED_TO_LATENTS):
            leaves['w'] -= leaves['w'] @ directions.T @ directions
            if '/self_attention' in module:
                leaves['w'] *= placement.self_attends
        if module in readouts:
            leaves['w'] *= placement.readouts
    video = params.get(f'{Readout.NAMES["video"]}/linear')
    if video is not None:
        video['b'][:] = placement.video_mean


def block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """[n, r] with the blocks [n_i, r_i] along the diagonal."""
    out = np.zeros((sum(map(len, blocks)), sum(block.shape[1] for block in blocks)))
    row = column = 0
    for block in blocks:
        out[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return out
