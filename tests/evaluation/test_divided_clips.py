"""The evaluation step with each clip divided over several devices: what they send each other."""

from helpers.several_devices import run_code


def test_no_device_sends_more_than_the_samples_of_a_clip():
    """In a process of its own with four devices. Spectra need four times as much."""
    shown = run_code(
        """
        import jax
        from helpers.tiny import TINY_DEMO
        from perceiver_io.configs import demo
        from perceiver_io.distributed import sharding
        from perceiver_io.distributed.hlo import read_program
        from perceiver_io.sweeps.points import overridden
        from perceiver_io.training.programs import Programs
        from perceiver_io.training.start import experiment_of

        keys = TINY_DEMO | {
            'initialization.video_grid': (1, 2, 2),
            'model.samples_per_frame': 1920 * 4,
            'mesh.context': 4,
            'training.eval_batch_size': 1,
        }
        values = overridden(demo.get_config().to_dict(), keys)
        experiment = experiment_of(values)
        program = Programs(experiment, sharding.make_mesh(experiment.mesh), 'cpu').evaluate()
        text = program.jitted.lower(*program.arguments).compile().as_text()
        samples = 4 * experiment.model.samples
        sent = [each.bytes for each in read_program(text).collectives]
        assert samples / 2 <= max(sent) <= samples, (max(sent), samples)
        print('largest', max(sent), 'of', samples)
    """,
        devices=4,
    )
    assert 'largest' in shown  # the process came to its end
