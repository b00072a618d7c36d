"""Whole files through a model, and files of latents."""
