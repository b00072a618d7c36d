"""Random changes of training clips, off by default. All are ours: the paper says nothing of any.

What is drawn holds for the whole clip, so that nothing flickers, and the sound is left alone.
"""

import dataclasses

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])  # of R, G and B in grey (BT.601)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Which changes are made.

    Attributes:
        flip: whether half of the clips are mirrored, left to right.
        colour_jitter: how far colours change, in [0, 1); see `jitter_colour`.
    """

    flip: bool = False
    colour_jitter: float = 0.0

    def __call__(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 [t, h, w, 3] to the same shape; `rng` decides what happens to it."""
        if self.flip and rng.random() < 0.5:
            video = np.ascontiguousarray(video[:, :, ::-1])
        if self.colour_jitter:
            video = jitter_colour(
                video, *rng.uniform(1 - self.colour_jitter, 1 + self.colour_jitter, 3)
            )
        return video


def jitter_colour(
    video: np.ndarray, brightness: float, contrast: float, saturation: float
) -> np.ndarray:
    """Scales the colours of a clip: 1 leaves as it is, 0 takes away.

    Args:
        video: uint8 [t, h, w, 3].
        brightness: factor of every value.
        contrast: factor of the distance from the clip's mean grey, after that.
        saturation: factor of the distance from each pixel's own grey, after that.

    Returns:
        uint8 [t, h, w, 3], rounded and clipped once, at the end.
    """
    pixels = video.reshape(-1, 1, 3)
    grey = np.dot(cv2.mean(pixels)[:3], _LUMA) * brightness
    # The three are one affine map of RGB, since a grey's own grey is itself.
    mix = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    affine = np.column_stack([brightness * contrast * mix, np.full(3, grey * (1 - contrast))])
    return cv2.transform(pixels, affine).reshape(video.shape)
