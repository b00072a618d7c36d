"""Whole media files through a trained model, and files of latents."""
