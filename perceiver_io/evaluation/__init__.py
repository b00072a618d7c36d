"""Evaluation of a model on a set of clips, and the table of results."""
