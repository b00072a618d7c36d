"""The network's functions on small arrays."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.network import layers
from perceiver_io.network.attention import attend, attend_by_head
from perceiver_io.network.factored.folded_layers import orthonormal_rows


def test_attend_by_head():
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 5, 4, 3), np.float32)

    def everything(f):
        answer, pull_back = jax.vjp(f, q, k, v)
        return answer, pull_back(jnp.cos(answer))

    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6),
        everything(attend),
        everything(attend_by_head),
    )


@pytest.mark.parametrize('rank, scale', [(16, 1.0), (16, 1e-12), (3, 1.0), (0, 1.0)])
def test_orthonormal_rows(rank, scale):
    rng = np.random.default_rng(0)
    w = (
        scale
        * rng.standard_normal((16, rank), np.float32)
        @ rng.standard_normal((rank, 30), np.float32)
    )
    basis = np.asarray(orthonormal_rows(w))
    norm = np.linalg.norm(w)
    np.testing.assert_allclose(w @ basis.T @ basis, w, atol=3e-6 * norm)
    v = rng.standard_normal((100, 16), np.float32)
    np.testing.assert_allclose(
        np.linalg.norm(v @ (w @ basis.T), axis=1), np.linalg.norm(v @ w, axis=1), rtol=3e-6
    )


@pytest.mark.parametrize('dtype, precision', [('float32', 'HIGHEST'), ('bfloat16', 'DEFAULT')])
def test_precision_of_products_and_of_their_gradients(dtype, precision):
    """float32 products are float32 on every backend, in the backward pass too."""
    x, w = jnp.ones((3, 4), dtype), jnp.ones((4, 5), dtype)

    def products(x, w):
        return layers.matmul(x, w).sum() + layers.einsum('ij,jk->ik', x, w).sum()

    text = str(jax.make_jaxpr(jax.grad(products, argnums=(0, 1)))(x, w))
    found = re.findall(r'precision=\(?(?:Precision\.)?(\w+)', text)
    assert found == 6 * [precision]  # two products, and two of the backward pass for each


def test_gradients_of_weights_are_not_rounded_to_bfloat16():
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.standard_normal((2, 300, n)), jnp.bfloat16) for n in (4, 5))
    weights = rng.standard_normal((4, 5), np.float32), np.zeros(5, np.float32)

    answer, pull_back = jax.vjp(layers.linear, x, weights)
    to_x, (to_w, to_b) = pull_back(g.astype(jnp.float32))
    rounded = jnp.asarray(weights[0], jnp.bfloat16).astype(jnp.float32)
    x, g = x.astype(jnp.float32), g.astype(jnp.float32)
    np.testing.assert_allclose(answer, x @ rounded, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_w, np.einsum('bni,bnj->ij', x, g), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_b, g.sum((0, 1)), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(to_x.astype(jnp.float32), g @ rounded.T, rtol=1e-2, atol=1e-2)
