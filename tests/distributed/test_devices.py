"""Several devices against one: eight that the CPU pretends to be, in a process of their own."""

import os
import subprocess
import sys
import textwrap

import pytest

PATHS = os.pathsep.join(sys.path)


def on_eight_devices(code: str) -> str:
    """Runs Python code with eight devices and returns what it printed."""
    environment = os.environ | {
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': PATHS,
    }
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        env=environment,
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_training_is_the_same_on_every_mesh():
    """With dropout and label masks, and gradients accumulated over two parts of a batch."""
    shown = on_eight_devices("""
        import jax, numpy as np, optax
        from helpers.tiny import TINY, random_clip
        from perceiver_io.distributed import sharding
        from perceiver_io.metrics.losses import LossWeights
        from perceiver_io.models.autoencoder import Autoencoder
        from perceiver_io.models.config import AutoencoderConfig
        from perceiver_io.training import steps

        config = AutoencoderConfig(**TINY | {'frames': 4, 'dropout': 0.2})
        results = []
        for data, context in ((1, 1), (2, 4)):
            mesh = sharding.make_mesh(
                sharding.MeshConfig(data, context), jax.devices()[: data * context]
            )
            model = Autoencoder(config)
            optimizer = optax.sgd(0.1)  # an adaptive one would magnify rounding
            state = steps.init_state(model, optimizer, 0, mesh)
            step = steps.make_train_step(
                model, optimizer, LossWeights(), steps.SamplingConfig(64, 16, 0.5),
                seed=0, mesh=mesh, accumulate=2,
            )
            for _ in range(2):
                state, metrics = step(state, sharding.put_clip(random_clip(config, 16), mesh))
            results.append(jax.device_get((state.params, metrics)))
        one, two = results
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), one, two)
        print('same on', len(jax.devices()), 'devices')
    """)
    assert shown == 'same on 8 devices\n'
