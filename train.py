"""`python train.py` is `perceiver-io train`: see `perceiver_io/train.py`."""

from perceiver_io import cli, train

if __name__ == '__main__':
    cli.run(train.main, train.define_flags)
