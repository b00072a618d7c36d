"""Perceiver IO for multimodal autoencoding: video, sound and label in, the same out."""

from perceiver_io.checkpoints.loading import load
from perceiver_io.core.clip import Clip, ClipSpec, Output
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig

__all__ = ['Autoencoder', 'AutoencoderConfig', 'Clip', 'ClipSpec', 'Output', 'load']
