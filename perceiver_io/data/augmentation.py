"""Random changes of training clips, off by default and not in the paper.

A change is drawn once for a clip and is the same in all its frames. The audio is not changed.
"""

import dataclasses

import cv2
import numpy as np

from perceiver_io.core.luma import LUMA

_LUMA = np.array(LUMA)


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
        """Changes uint8 [t, h, w, 3], in the way that `rng` decides."""
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
    """Scales the colours of a clip: a factor of 1 changes nothing, 0 removes the property.

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
    # All three are one affine map of RGB, because the grey of a grey is itself.
    mix = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    affine = np.column_stack([brightness * contrast * mix, np.full(3, grey * (1 - contrast))])
    return cv2.transform(pixels, affine).reshape(video.shape)
