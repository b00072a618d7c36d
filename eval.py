"""`python eval.py` is `perceiver-io eval`: see `perceiver_io/eval.py`."""

from perceiver_io import cli, eval

if __name__ == '__main__':
    cli.run(eval.main, eval.define_flags)
