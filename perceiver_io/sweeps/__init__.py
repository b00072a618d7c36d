"""Sweeps: the points around a config, and the programs that train and evaluate each of them."""
