"""The Perceiver IO network. Nothing in it depends on which modalities exist."""
