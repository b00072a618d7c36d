"""Training: the loop, its step, the optimizer and the records of a run."""
