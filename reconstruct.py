"""`python reconstruct.py` is `perceiver-io reconstruct`: see `perceiver_io/reconstruct.py`."""

from perceiver_io import cli, reconstruct

if __name__ == '__main__':
    cli.run(reconstruct.main, reconstruct.define_flags)
