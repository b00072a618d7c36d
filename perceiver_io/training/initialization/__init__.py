"""The placed start: other initial values for the same model (not in the paper)."""
