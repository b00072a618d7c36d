"""The exact computation on several devices, in a process of its own that has them."""

from helpers.several_devices import run_code


def test_a_mesh_changes_nothing():
    """Eight devices as 2 x 4, clips and their frames divided, in a process of its own."""
    shown = run_code(
        """
        import jax, jax.numpy as jnp, numpy as np
        from helpers.models import UNEVEN, make_inputs, make_params
        from perceiver_io.distributed import sharding
        from perceiver_io.distributed.hlo import read_program
        from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
        from perceiver_io.network.factored import decoder, tiled_softmax

        tiled_softmax.TILE, decoder.FEW = 40, 16
        config = AutoencoderConfig(**UNEVEN | dict(frames=8, latents=8, decode_memory=400_000))
        model, params, inputs = Autoencoder(config), make_params(config), make_inputs(config, 4)
        del inputs['label'], inputs['label_masked']

        def loss(params, inputs):
            latents = model.encode(params, **inputs)
            few = model.decode(
                params, latents, video_index=jnp.arange(9), audio_index=jnp.arange(7))
            return sum((leaf ** 2).mean() for leaf in jax.tree.leaves(few))

        def everything(params, inputs):
            return jax.value_and_grad(loss)(params, inputs), model.reconstruct(params, **inputs)

        mesh = sharding.make_mesh(sharding.MeshConfig(2, 4))
        placed = {name: jax.device_put(inputs[name], getattr(sharding.clip_sharding(mesh), name))
                  for name in inputs}
        params = jax.device_put(params, sharding.replicated(mesh))
        compiled = jax.jit(everything).lower(params, placed).compile()
        sharded = jax.device_get(compiled(params, placed))
        single = jax.device_get(jax.jit(everything)(jax.device_get(params), inputs))
        jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-5),
                     single, sharded)

        # No device gathers the tokens of a clip.
        values = config.frames * config.height * config.width * 3
        gathered = [each.bytes for each in read_program(compiled.as_text()).collectives
                    if each.kind == 'all-gather']
        assert max(gathered, default=0) < 4 * values, gathered
        print('largest gather', max(gathered, default=0), 'of', 4 * values)
    """,
        devices=8,
    )
    assert 'largest gather' in shown  # the process came to its end


def test_the_gradient_is_summed_over_devices_outside_of_loops():
    shown = run_code(
        """
        import jax, jax.numpy as jnp
        from helpers.models import UNEVEN, make_inputs, make_params
        from perceiver_io.distributed import sharding
        from perceiver_io.distributed.hlo import read_program
        from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
        from perceiver_io.network.factored import tiled_softmax

        tiled_softmax.TILE = 40
        config = AutoencoderConfig(**UNEVEN | dict(frames=8))
        model, inputs = Autoencoder(config), make_inputs(config, 4)
        mesh = sharding.make_mesh(sharding.MeshConfig(4, 1))
        placed = {name: jax.device_put(x, getattr(sharding.clip_sharding(mesh), name))
                  for name, x in inputs.items() if not name.startswith('label')}
        params = jax.device_put(make_params(config), sharding.replicated(mesh))
        gradient = jax.jit(jax.grad(lambda params, inputs: model.encode(params, **inputs).mean()))
        text = gradient.lower(params, placed).compile().as_text()
        for collective in read_program(text).collectives:
            print(collective.kind, collective.dtype, collective.times)
        print('loops', text.count(' while('))
    """,
        devices=4,
    )
    *collectives, loops = [line.split() for line in shown.splitlines()]
    assert int(loops[1]) > 0 and collectives
    assert {tuple(collective) for collective in collectives} == {('all-reduce', 'f32', '1')}
