"""Norms of the gradients by group of modules (not in the paper)."""

from collections.abc import Mapping

import haiku as hk
import jax
import optax

from perceiver_io.models.modalities import PARAMETER_NAMES, Readout

# The first that a module's name begins with.
_PARTS = {
    'encoder/~/trainable_position_encoding': 'latents',
    'encoder/~/cross_attention': 'encoder',
    'encoder/~/self_attention': 'self_attends',
    'multimodal_decoder/~/basic_decoder': 'decoder',
    'classification_decoder': 'label',
} | {readout: modality for modality, readout in Readout.NAMES.items()}


def group(module: str) -> str:
    """The group of a module: 'latents', 'encoder', 'self_attends', 'decoder' or a modality.

    A modality's are its readout, its padding and mask token, and the label's query.
    """
    for start, name in _PARTS.items():
        if module.startswith(start):
            return name
    last = module.split('/')[-1]
    for modality, name in PARAMETER_NAMES.items():
        if last.startswith(f'{name}_'):
            return modality
    raise KeyError(module)


def norms_by_group(gradients: hk.Params) -> dict[str, jax.Array]:
    """The norm of the gradients of each group, before clipping: {'gradient_norm/GROUP': scalar}."""
    groups: dict[str, dict[str, Mapping[str, jax.Array]]] = {}
    for module, leaves in gradients.items():
        groups.setdefault(group(module), {})[module] = leaves
    return {f'gradient_norm/{name}': optax.tree.norm(leaves) for name, leaves in groups.items()}
