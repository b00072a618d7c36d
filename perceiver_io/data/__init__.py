"""Media files to batches of clips. Knows the clip, and nothing of the network."""
