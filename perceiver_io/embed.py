"""`python -m perceiver_io.embed` is the earlier name of `perceiver-io encode`."""

from perceiver_io import cli
from perceiver_io.encode import define_flags, encode_files, main

embed_files = encode_files

if __name__ == '__main__':
    cli.run(main, define_flags)
