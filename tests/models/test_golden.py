"""The model against the original code's outputs, losses and gradients (docs/golden.md)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.golden_files import FOLDER, GoldenFile

import perceiver_io
from perceiver_io.metrics import losses
from perceiver_io.models.modalities import patch_audio

FILES = sorted(FOLDER.glob('*.npz'))


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(
            (path, attention),
            id=f'{path.stem}-{attention}',
            marks=[pytest.mark.slow] if (attention, path.stem[:4]) == ('plain', 'full') else [],
        )
        for path in FILES
        for attention in ('plain', 'exact')
    ],
)
def answers(request) -> tuple:
    """A file, its parameters' shapes, and what this project answers by either attention."""
    path, attention = request.param
    golden = GoldenFile(path)
    model = perceiver_io.Autoencoder(dataclasses.replace(golden.config, attention=attention))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = golden.params(shapes)
    inputs = golden.inputs()

    def loss(params, inputs, video_index, audio_index):
        latents = model.encode(
            params,
            video=inputs['video'],
            audio=inputs['audio'],
            label=inputs['label'] if golden.label_given else None,
        )
        output = model.decode(params, latents, video_index=video_index, audio_index=audio_index)
        if golden.loss is None:
            return 0.0, (output, {})
        video = inputs['video'].reshape(golden.batch, -1, 3)[:, video_index]
        audio = patch_audio(inputs['audio'], golden.config.audio_patch)[:, audio_index]
        terms = losses.loss_terms(output, perceiver_io.Output(video, audio, inputs['label']))
        return losses.weighted_total(terms, losses.LossWeights()), (output, terms)

    with jax.default_matmul_precision('highest'):
        args = params, inputs, golden.image_index, golden.audio_index
        if golden.grad_norms is None:
            (total, (output, terms)), grads = jax.jit(loss)(*args), None
        else:
            (total, (output, terms)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(*args)
    return golden, shapes, output, {'total': total} | terms, grads


def test_there_are_golden_files():
    assert FILES, f'no golden files in {FOLDER}'


def test_parameter_tree(answers):
    golden, shapes, *_ = answers
    names = sorted(
        f'{module}/{name}:{tuple(leaf.shape)}'
        for module, leaves in shapes.items()
        for name, leaf in leaves.items()
    )
    assert names == sorted(golden.param_names.tolist())


def test_outputs(answers):
    golden, _, output, *_ = answers
    for ours, theirs in (
        (output.video, golden.out_image),
        (output.audio, golden.out_audio),
        (output.label, golden.out_label),
    ):
        np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=0, atol=5e-5)


def test_losses(answers):
    golden, _, _, terms, _ = answers
    if golden.loss is None:
        pytest.skip('the file has no losses')
    ours = [terms[name] for name in ('total', 'video', 'audio', 'label')]
    np.testing.assert_allclose(ours, golden.loss, rtol=1e-5)


def test_gradient_norms(answers):
    golden, *_, grads = answers
    if grads is None:
        pytest.skip('the file has no gradients')
    norms = {
        f'{module}/{name}': float(jnp.linalg.norm(leaf))
        for module, leaves in grads.items()
        for name, leaf in leaves.items()
    }
    assert sorted(norms) == sorted(golden.grad_names.tolist())
    for name, expected in zip(golden.grad_names.tolist(), golden.grad_norms, strict=True):
        assert norms[name] == pytest.approx(float(expected), rel=1e-4, abs=1e-6), name
