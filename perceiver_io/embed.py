"""`python -m perceiver_io.embed` is the earlier name of `perceiver-io encode`."""

from perceiver_io import cli, encode

if __name__ == '__main__':
    cli.run(encode.main, encode.define_flags)
