"""Models built of the network: their configs, modalities and Python interfaces."""
