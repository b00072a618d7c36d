"""File formats of weights, to and from arrays. No code in a file is executed."""
