"""Weights on disk: run checkpoints, released files, other libraries' files, conversions."""
