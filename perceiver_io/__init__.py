"""Perceiver IO for multimodal autoencoding: video, sound and label in, the same out."""

from perceiver_io.checkpoints.loading import load
from perceiver_io.clip import Clip, ClipSpec
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig, Output

__all__ = ['Autoencoder', 'AutoencoderConfig', 'Clip', 'ClipSpec', 'Output', 'load']
