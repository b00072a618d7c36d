"""Preparing datasets: trees of clips to TFDS datasets."""
