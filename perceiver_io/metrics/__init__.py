"""Losses and measures of quality."""
