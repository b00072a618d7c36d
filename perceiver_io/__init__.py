"""Perceiver IO for multimodal autoencoding: video, sound and label in, the same out."""

from perceiver_io.autoencoder import Autoencoder, AutoencoderConfig, Output
from perceiver_io.clip import Clip, ClipSpec
from perceiver_io.loading import load

__all__ = ['Autoencoder', 'AutoencoderConfig', 'Clip', 'ClipSpec', 'Output', 'load']
