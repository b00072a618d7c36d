"""Several devices against one: eight that the CPU pretends to be, in a process of their own."""

import pytest
from helpers.several_devices import run_code

ALL = ('video', 'audio', 'label')
CASES = [
    *[('exact', optimizer, ALL) for optimizer in ('sgd', 'lamb', 'adamw', 'muon')],
    *[('plain', optimizer, ALL) for optimizer in ('sgd', 'lamb', 'adamw', 'muon')],
    *[
        (attention, 'sgd', modalities)
        for attention in ('exact', 'plain')
        for modalities in (ALL[:2], ALL[::2], ALL[1:], ALL[:1], ALL[1:2])
    ],
]


@pytest.mark.slow
@pytest.mark.parametrize('attention, optimizer, modalities', CASES)
def test_training_is_the_same_on_every_mesh(attention, optimizer, modalities):
    """20 steps with label masks and gradients accumulated over two parts; with SGD, with dropout.

    The losses agree to 1e-5, and so do the parameters, but where an optimizer divides by the size
    of the gradient: it turns the rounding errors of gradients near 0 into steps of its rate.
    """
    shown = run_code(
        f"""
        import jax, numpy as np, optax
        from helpers.tiny import TINY, random_clip
        from perceiver_io.distributed import sharding
        from perceiver_io.metrics.losses import LossWeights
        from perceiver_io.models.autoencoder import Autoencoder
        from perceiver_io.models.config import AutoencoderConfig
        from perceiver_io.training import steps
        from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer

        attention, name, modalities = {attention!r}, {optimizer!r}, {modalities!r}
        config = AutoencoderConfig(**TINY | dict(
            frames=8, modalities=modalities, attention=attention,
            dropout=0.2 if name == 'sgd' else 0.0))
        model = Autoencoder(config)
        rates = dict(lamb=1e-3, adamw=1e-4, muon=1e-3)
        optimizer = optax.sgd(0.1) if name == 'sgd' else make_optimizer(
            OptimizerConfig(name, rates[name], adam_learning_rate=1e-4, flat=1.0), 20)
        clip = random_clip(config, 16)
        one = None
        for devices in (1, 2, 4, 8):
            for context in (c for c in (1, 2, 4, 8) if c <= devices):
                if context > 1 and attention == 'plain':
                    continue
                mesh = sharding.make_mesh(
                    sharding.MeshConfig(devices // context, context), jax.devices()[:devices]
                )
                state = steps.init_state(model, optimizer, 0, mesh)
                step = steps.make_train_step(
                    model, optimizer, LossWeights(), steps.SamplingConfig(64, 16, 0.5),
                    seed=0, mesh=mesh, accumulate=2,
                )
                losses = []
                for _ in range(20):
                    state, metrics = step(state, sharding.put_clip(clip, mesh))
                    losses.append(float(metrics['loss']))
                params = jax.device_get(state.params)
                one = one or (losses, params)
                off = max(np.abs(np.subtract(losses, one[0])))
                apart = jax.tree.map(lambda x, y: np.abs(x - y), params, one[1])
                largest = max(jax.tree.leaves(jax.tree.map(np.max, apart)))
                many = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(apart)])
                print(mesh.shape['data'], context, off, largest, np.mean(many > 1e-5))
    """,
        devices=8,
        timeout=900,
    )
    print(shown)
    rows = [line.split() for line in shown.splitlines()]
    assert len(rows) == (10 if attention == 'exact' else 4)
    for data, context, loss, parameters, _ in rows:
        assert float(loss) < 1e-5 and float(parameters) < 5e-5, f'{data} x {context}\n{shown}'
